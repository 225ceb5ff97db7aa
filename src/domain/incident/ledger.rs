//! What is known of each release of a workload: when it served, whether it is known good, whether it was taken back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::id::{IncidentId, RevisionId};
use crate::domain::settings::{ContentId, KeptSetting};
use crate::domain::time::{Span, Timestamp};

/// No release is taken back, or gone back to in vain, twice within this time.
pub const OSCILLATION_GUARD: Span = Span::from_secs(24 * 3600);

/// Releases remembered per workload; the ones that served longest ago are forgotten first.
pub const LEDGER_LIMIT: usize = 256;

/// Releases whose settings are kept; so many revisions a Deployment keeps by default.
pub const SETTINGS_LIMIT: usize = 10;

/// One release's record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// When it last became the current one.
    pub last_current: Timestamp,
    /// When it was rolled out, where it was known good by the time a rollback put it in place again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_out: Option<Timestamp>,
    /// Since when it is known good; none from when it is taken back until it is seen healthy again.
    pub known_good_since: Option<Timestamp>,
    /// When it was last taken back, and by which incident.
    pub taken_back: Option<(Timestamp, IncidentId)>,
    /// When it was last replaced by somebody while a fault of its own went on, and which incident that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_bad: Option<(Timestamp, IncidentId)>,
    /// When it was last gone back to without bringing the service back.
    pub failed_as_goal: Option<Timestamp>,
    /// What it names besides its template, as that was while it served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Vec<KeptSetting>>,
}

/// All releases of a workload that were ever current, or known good beside the one that was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger(BTreeMap<RevisionId, Standing>);

impl Ledger {
    /// The record of one release.
    #[must_use]
    pub fn get(&self, revision: &RevisionId) -> Option<&Standing> {
        self.0.get(revision)
    }

    /// Every release with its record.
    pub fn iter(&self) -> impl Iterator<Item = (&RevisionId, &Standing)> {
        self.0.iter()
    }

    /// Notes that a release became current.
    pub fn became_current(&mut self, revision: &RevisionId, image: Option<String>, at: Timestamp) {
        let standing = self.standing(revision, at);
        standing.last_current = at;
        standing.image = image;
        standing.rolled_out = None;
        self.forget_oldest();
    }

    /// Notes that a rollback made a release current: known good before, it is not on probation anew.
    pub fn gone_back_to(&mut self, revision: &RevisionId, image: Option<String>, at: Timestamp) {
        let known = self.0.get(revision).filter(|standing| standing.known_good_since.is_some());
        let rolled_out = known.map(|standing| standing.rolled_out.unwrap_or(standing.last_current));
        self.became_current(revision, image, at);
        if let Some(standing) = self.0.get_mut(revision) {
            standing.rolled_out = rolled_out;
        }
    }

    fn standing(&mut self, revision: &RevisionId, at: Timestamp) -> &mut Standing {
        self.0.entry(revision.clone()).or_insert(Standing {
            image: None,
            last_current: at,
            rolled_out: None,
            known_good_since: None,
            taken_back: None,
            left_bad: None,
            failed_as_goal: None,
            settings: None,
        })
    }

    /// Notes that a release was seen healthy for long enough: it may be gone back to, whatever it was taken back for before.
    /// That it was taken back is not forgotten, so that it is not taken back twice within a day. It need not have been current:
    /// what serves beside a canary that always has instances never is.
    pub fn known_good(&mut self, revision: &RevisionId, since: Timestamp) {
        let standing = self.standing(revision, since);
        standing.known_good_since = Some(since);
        standing.left_bad = None;
        standing.failed_as_goal = None;
        self.forget_oldest();
    }

    /// Notes that a release is being taken back: it is no goal any more.
    pub fn taken_back(&mut self, revision: &RevisionId, at: Timestamp, incident: &IncidentId) {
        if let Some(standing) = self.0.get_mut(revision) {
            standing.taken_back = Some((at, incident.clone()));
            standing.known_good_since = None;
        }
    }

    /// Notes that somebody replaced a release while a fault of its own went on: it is no goal any more.
    pub fn left_bad(&mut self, revision: &RevisionId, at: Timestamp, incident: &IncidentId) {
        if let Some(standing) = self.0.get_mut(revision) {
            standing.left_bad = Some((at, incident.clone()));
            standing.known_good_since = None;
        }
    }

    /// Notes that going back to a release did not bring the service back.
    pub fn failed_as_goal(&mut self, revision: &RevisionId, at: Timestamp) {
        if let Some(standing) = self.0.get_mut(revision) {
            standing.failed_as_goal = Some(at);
        }
    }

    /// Notes that going back to a release brought the service back after all.
    pub fn restored_to(&mut self, revision: &RevisionId) {
        if let Some(standing) = self.0.get_mut(revision) {
            standing.failed_as_goal = None;
        }
    }

    /// Notes what a release names, and what of it was kept. Of the releases that served longest ago that is forgotten.
    pub fn settings_kept(&mut self, revision: &RevisionId, settings: Vec<KeptSetting>) {
        if let Some(standing) = self.0.get_mut(revision) {
            standing.settings = Some(settings);
        }
        let mut with_settings: Vec<_> = self.0.values_mut().filter(|standing| standing.settings.is_some()).collect();
        with_settings.sort_by_key(|standing| std::cmp::Reverse(standing.last_current));
        for standing in with_settings.into_iter().skip(SETTINGS_LIMIT) {
            standing.settings = None;
        }
    }

    /// All that is kept of any release.
    pub fn contents(&self) -> impl Iterator<Item = &ContentId> {
        let settings = self.0.values().filter_map(|standing| standing.settings.as_ref()).flatten();
        settings.filter_map(|kept| kept.content.as_ref())
    }

    fn forget_oldest(&mut self) {
        while self.0.len() > LEDGER_LIMIT {
            let Some(oldest) = self.0.iter().min_by_key(|(_, s)| s.last_current).map(|(r, _)| r.clone()) else {
                return;
            };
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn a_release_that_was_taken_back_is_good_no_more() {
        let mut ledger = Ledger::default();
        let v1 = RevisionId::new("v1");
        ledger.became_current(&v1, None, at(0));
        ledger.known_good(&v1, at(1));
        ledger.taken_back(&v1, at(2), &IncidentId::new("i"));
        let standing = ledger.get(&v1).unwrap();
        assert_eq!(standing.known_good_since, None);
        assert_eq!(standing.taken_back, Some((at(2), IncidentId::new("i"))));
    }

    #[test]
    fn a_release_that_is_good_again_keeps_the_day_that_it_was_taken_back() {
        let mut ledger = Ledger::default();
        let v2 = RevisionId::new("v2");
        ledger.became_current(&v2, None, at(0));
        ledger.taken_back(&v2, at(2), &IncidentId::new("i"));
        ledger.known_good(&v2, at(9));
        let standing = ledger.get(&v2).unwrap();
        assert_eq!(standing.known_good_since, Some(at(9)));
        assert_eq!(standing.taken_back, Some((at(2), IncidentId::new("i"))));
    }

    #[test]
    fn the_ledger_is_bounded_and_forgets_the_oldest() {
        let mut ledger = Ledger::default();
        for i in 0..LEDGER_LIMIT + 10 {
            let secs = i64::try_from(i).unwrap();
            ledger.became_current(&RevisionId::new(format!("v{i}")), None, at(secs));
        }
        assert_eq!(ledger.iter().count(), LEDGER_LIMIT);
        assert!(ledger.get(&RevisionId::new("v9")).is_none());
        assert!(ledger.get(&RevisionId::new("v10")).is_some());
    }
}
