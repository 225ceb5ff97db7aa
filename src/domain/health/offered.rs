//! What each release's pages offered, for naming what is gone and what came in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::series::Delta;
use super::verdict::{Gone, Since};
use crate::domain::id::RevisionId;
use crate::domain::policy::{Candidate, OperandId, Operands};
use crate::domain::time::{Span, Timestamp};

/// Releases that are remembered; the one that was seen longest ago goes first.
const MAX_RELEASES: usize = 4;

/// Different lists of families that are kept a release: its instances offer the same but for a few.
const MAX_LISTS: usize = 4;

/// Most names told of what came, and of what is gone.
const MAX_NAMES: (usize, usize) = (5, 3);

/// How long after its first page a release may be without series that others have before they count as gone, where nothing
/// came in their place: client libraries offer a labelled series from the first request on.
const FIRST_REQUEST: Span = Span::from_secs(5 * 60);

/// What the pages of one release offered.
#[derive(Clone, Debug, Default)]
struct Offer {
    /// Operand by operand, when a series of it was last on a page.
    seen: Vec<Option<Timestamp>>,
    /// Names of families on its pages, each list sorted, that of the newest page last.
    families: Vec<Arc<[String]>>,
    first: Option<Timestamp>,
    newest: Option<Timestamp>,
}

/// What each release's pages offered.
#[derive(Clone, Debug, Default)]
pub(super) struct Offered(BTreeMap<RevisionId, Offer>);

impl Offered {
    /// Notes a page of a release: what it has of each operand, and its families where they are told.
    pub(super) fn note(
        &mut self,
        release: &RevisionId,
        deltas: &[Delta],
        families: Option<&Arc<[String]>>,
        at: Timestamp,
    ) {
        if !self.0.contains_key(release) {
            self.make_room();
        }
        let offer = self.0.entry(release.clone()).or_default();
        offer.first = offer.first.or(Some(at));
        offer.newest = Some(at);
        offer.seen.resize(deltas.len(), None);
        for (seen, _) in offer.seen.iter_mut().zip(deltas).filter(|(_, delta)| delta.samples > 0) {
            *seen = Some(at);
        }
        let Some(families) = families else { return };
        let is_known = |known: &Arc<[String]>| Arc::ptr_eq(known, families) || known == families;
        match offer.families.iter().position(is_known) {
            Some(place) => offer.families[place..].rotate_left(1),
            None => {
                if offer.families.len() == MAX_LISTS {
                    offer.families.remove(0);
                }
                offer.families.push(Arc::clone(families));
            }
        }
    }

    /// The families on a release's newest page, as far as they were told.
    fn present(&self, release: &RevisionId) -> &[String] {
        self.0.get(release).and_then(|offer| offer.families.last()).map_or(&[], |list| list)
    }

    fn make_room(&mut self) {
        if self.0.len() < MAX_RELEASES {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, offer)| offer.newest).map(|(release, _)| release.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }

    /// What another release had that `release` has not, of the series that these candidates ask for.
    pub(super) fn gone(&self, release: &RevisionId, candidates: &[Candidate], operands: &Operands) -> Option<Gone> {
        let others = || self.0.iter().filter(|(other, _)| *other != release).map(|(_, offer)| offer);
        let was_seen = |operand: &OperandId| {
            others().any(|offer| offer.seen.get(usize::from(operand.0)).is_some_and(Option::is_some))
        };
        let bases = candidates.iter().filter_map(|candidate| super::candidate::base(candidate.formula));
        let mut families: Vec<String> = Vec::new();
        for operand in bases.filter(was_seen) {
            let Some(name) = operands.get(operand).and_then(|operand| operand.selector.name()) else { continue };
            if families.len() < MAX_NAMES.1 && !families.iter().any(|known| known == name) {
                families.push(name.to_owned());
            }
        }
        if families.is_empty() {
            return None;
        }
        let known = others().flat_map(|offer| &offer.families);
        Some(told(families, Since::Release(release.clone()), known, self.present(release)))
    }

    /// Whether what `release` lacks may come with its first request: it was not there for long, and all that it has the
    /// others had too, so that nothing took the place of what is missing.
    pub(super) fn may_come(&self, release: &RevisionId, gone: &Gone, now: Timestamp) -> bool {
        let first = self.0.get(release).and_then(|offer| offer.first);
        gone.appeared == Some(0) && first.is_some_and(|first| now.since(first) < FIRST_REQUEST)
    }

    /// That a series which `release` itself had is on its pages no more, though they are read; `is_fresh` says so of a time.
    pub(super) fn vanished(
        &self,
        release: &RevisionId,
        operand: OperandId,
        operands: &Operands,
        is_fresh: impl Fn(Timestamp) -> bool,
    ) -> Option<Gone> {
        let offer = self.0.get(release).filter(|offer| offer.newest.is_some_and(&is_fresh))?;
        let last = (*offer.seen.get(usize::from(operand.0))?).filter(|last| !is_fresh(*last))?;
        let name = operands.get(operand)?.selector.name()?.to_owned();
        let before = offer.families.iter().rev().skip(1);
        Some(told(vec![name], Since::Time(last), before, self.present(release)))
    }
}

/// What came in the place of what is gone: of the families that are there, those that were not.
fn told<'a>(
    families: Vec<String>,
    since: Since,
    before: impl Iterator<Item = &'a Arc<[String]>>,
    present: &[String],
) -> Gone {
    let known: BTreeSet<&str> = before.flat_map(|list| list.iter()).map(String::as_str).collect();
    let is_known = !known.is_empty() && !present.is_empty();
    let appeared: Vec<&String> = present.iter().filter(|name| is_known && !known.contains(name.as_str())).collect();
    Gone {
        families,
        since,
        appeared: is_known.then(|| u32::try_from(appeared.len()).unwrap_or(u32::MAX)),
        names: appeared.into_iter().take(MAX_NAMES.0).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::at;
    use super::*;
    use crate::domain::health::selector::Selector;
    use crate::domain::policy::{Formula, Operand, OperandKind};

    fn families(names: &[&str]) -> Arc<[String]> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn page(has: bool) -> Vec<Delta> {
        vec![Delta { samples: u32::from(has), ..Delta::default() }]
    }

    /// What is said to be gone of `requests_total`, once v1 had it or not, with the families of each.
    fn told(old: (bool, Option<&[&str]>), new: &[&str]) -> Option<String> {
        let mut operands = Operands::default();
        let selector = Selector::parse("requests_total").unwrap();
        let counter = operands.intern(Operand { selector, kind: OperandKind::Value }).unwrap();
        let candidates = [Candidate { convention: None, formula: Formula::Rate { counter }, scale: 1.0 }];
        let mut offered = Offered::default();
        offered.note(&"v1".into(), &page(old.0), old.1.map(families).as_ref(), at(0));
        offered.note(&"v2".into(), &page(false), Some(&families(new)), at(5));
        // The old release goes on beside the new one, and its pages say nothing of what the new one's have.
        offered.note(&"v1".into(), &page(old.0), old.1.map(families).as_ref(), at(6));
        offered.gone(&"v2".into(), &candidates, &operands).map(|gone| gone.to_string())
    }

    #[test]
    fn what_is_gone_is_named_with_what_came() {
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(
            told((true, Some(&["requests", "up"])), &["http_requests", "up", "x"]),
            said("`requests_total` is gone since v2; 2 families appeared: http_requests, x")
        );
        assert_eq!(
            told((true, Some(&["a"])), &["a1", "a2", "a3", "a4", "a5", "a6"]),
            said("`requests_total` is gone since v2; 6 families appeared: a1, a2, a3, a4, a5, …")
        );
        assert_eq!(
            told((true, Some(&["requests", "up"])), &["up"]),
            said("`requests_total` is gone since v2; no family appeared")
        );
        assert_eq!(told((true, None), &["up"]), said("`requests_total` is gone since v2"));
        assert_eq!(told((false, Some(&["up"])), &["up", "x"]), None);
    }

    #[test]
    fn what_a_release_lacks_may_come_with_its_first_request() {
        let gone = |appeared| Gone {
            families: vec!["requests_total".to_owned()],
            since: Since::Release("v2".into()),
            appeared,
            names: Vec::new(),
        };
        let mut offered = Offered::default();
        assert!(!offered.may_come(&"v2".into(), &gone(Some(0)), at(0)), "no page of it was seen");
        offered.note(&"v2".into(), &page(false), None, at(0));
        offered.note(&"v2".into(), &page(false), None, at(290));
        for (appeared, second, expected) in
            [(Some(0), 299, true), (Some(0), 300, false), (Some(1), 10, false), (None, 10, false)]
        {
            let may = offered.may_come(&"v2".into(), &gone(appeared), at(second));
            assert_eq!(may, expected, "{appeared:?} after {second} s");
        }
    }

    #[test]
    fn what_vanishes_from_one_releases_pages_is_named_too() {
        let mut operands = Operands::default();
        let selector = Selector::parse("requests_total").unwrap();
        let counter = operands.intern(Operand { selector, kind: OperandKind::Value }).unwrap();
        let mut offered = Offered::default();
        let (before, after) = (families(&["requests", "up"]), families(&["http_requests", "up"]));
        let said = |offered: &Offered| {
            let gone = offered.vanished(&"v1".into(), counter, &operands, |time| time > at(10));
            gone.map(|gone| gone.to_string())
        };
        offered.note(&"v1".into(), &page(true), Some(&before), at(5));
        assert_eq!(said(&offered), None, "nothing is read");
        offered.note(&"v1".into(), &page(false), Some(&after), at(15));
        let expected = "`requests_total` is gone since 1970-01-01T00:00:05.000Z; 1 family appeared: http_requests";
        assert_eq!(said(&offered).as_deref(), Some(expected));
        offered.note(&"v1".into(), &page(true), None, at(20));
        assert_eq!(said(&offered), None, "it is there");
    }

    #[test]
    fn the_release_that_was_seen_longest_ago_is_forgotten() {
        let mut offered = Offered::default();
        for (second, release) in ["a", "b", "c", "d", "a", "e"].into_iter().enumerate() {
            offered.note(&release.into(), &page(true), None, at(second as i64));
        }
        let known: Vec<&str> = offered.0.keys().map(RevisionId::as_str).collect();
        assert_eq!(known, ["a", "c", "d", "e"]);
    }
}
