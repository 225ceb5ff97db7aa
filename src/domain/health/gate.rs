//! The gate between two steps of a rollback: whether what a step brought answers well.
//!
//! Only what was seen after the step ended counts, and nothing seen is never a pass.

use super::Health;
use super::looks::{Look, Looks, MAX_LOOKS, Outcome};
use super::target::Scraped;
use super::verdict::{UnknownReason, Verdict};
use crate::domain::id::{InstanceId, RevisionId, TargetId};
use crate::domain::time::Timestamp;

/// Looks in a row by which an address is known to answer well.
const TELLING: usize = 2;

impl Health {
    /// Whether a gate is passed: each target of `instances` (of all, where empty) gave its newest `answers` good answers
    /// in a row since `since`, from `release` where the answers say which. Where no health endpoint speaks for an
    /// instance, good scrapes count instead. At most 16 answers can be asked for; more count as 16.
    ///
    /// `Breach` means that the newest answer of some target is bad or another release's; it may still pass later.
    #[must_use]
    pub fn gate(
        &self,
        instances: &[InstanceId],
        release: &RevisionId,
        answers: u32,
        since: Timestamp,
        now: Timestamp,
    ) -> Verdict {
        let targets = self.gate_targets(instances);
        let Some(targets) = targets.filter(|targets| !targets.is_empty()) else {
            return Verdict::Unknown(UnknownReason::NoTarget);
        };
        let need = usize::try_from(answers).unwrap_or(MAX_LOOKS).clamp(1, MAX_LOOKS);
        if let Some((due, all)) = self.due_among_all(instances, release) {
            return self.gate_among(&targets, release, (need, due, all), since, now);
        }
        let verdicts = targets.iter().map(|looks| self.passed(looks, Some(release), need, since, now));
        let mut worst = Verdict::Ok;
        for verdict in verdicts {
            match verdict {
                Verdict::Ok => {}
                Verdict::Breach => return Verdict::Breach,
                Verdict::Unknown(reason) => worst = Verdict::Unknown(reason),
            }
        }
        match worst {
            Verdict::Ok if self.kept_by_old_process(instances, release).is_some() => {
                Verdict::Unknown(UnknownReason::NoReading)
            }
            worst => worst,
        }
    }

    /// Whether a gate is not passed because of what was seen; none of it was where there is nothing to look at, where this side
    /// could not look, or has not lately.
    #[must_use]
    pub fn is_seen(&self, instances: &[InstanceId], release: &RevisionId, reason: &UnknownReason) -> bool {
        match reason {
            UnknownReason::NoTarget | UnknownReason::Blind { .. } | UnknownReason::Stale { .. } => false,
            UnknownReason::NoReading => self.kept_by_old_process(instances, release).is_some(),
            _ => true,
        }
    }

    /// What a gate that is not passed waits for, in words; empty where nothing is known of it.
    #[must_use]
    pub fn what_keeps(&self, instances: &[InstanceId], release: &RevisionId, since: Timestamp) -> String {
        let is_asked = |instance: Option<&InstanceId>| {
            instances.is_empty() || instance.map_or_else(|| !self.is_any_own(), |instance| instances.contains(instance))
        };
        let asked = self.probed.iter().filter(|(_, probed)| is_asked(probed.instance.as_ref()));
        let mut lacks = asked.filter_map(|(id, probed)| {
            let other = probed.told.as_ref().filter(|told| told.at > since && told.revision != *release);
            match (other, probed.looks.newest_since(since).map(|look| &look.outcome)) {
                (Some(other), _) => Some(format!("{id} answers as {}, {release} is expected", other.revision)),
                (None, Some(Outcome::Bad(what) | Outcome::Unseen(what))) => Some(format!("{id}: {what}")),
                (None, None) => Some(format!("{id} has not answered yet")),
                (None, Some(Outcome::Good)) => None,
            }
        });
        let pages =
            self.scraped.iter().filter(|(id, page)| is_asked(page.instance.as_ref()) && !self.is_probed(id, page));
        let mut dark = pages.filter_map(|(id, page)| match &page.looks.newest_since(since)?.outcome {
            Outcome::Bad(what) | Outcome::Unseen(what) => Some(format!("{id}: {what}")),
            Outcome::Good => None,
        });
        let first = lacks.next().or_else(|| dark.next());
        first.or_else(|| self.kept_by_old_process(instances, release)).unwrap_or_default()
    }

    /// The old process answers as well as the new one will.
    fn kept_by_old_process(&self, instances: &[InstanceId], release: &RevisionId) -> Option<String> {
        let of_gate = |instance: &InstanceId| instances.is_empty() || instances.contains(instance);
        self.not_replaced(release, of_gate)
    }

    /// Notes which addresses answer well, before anything is done: a gate asks no less of them.
    pub fn note_well(&mut self) {
        let probed = self.probed.values_mut().map(|probed| &mut probed.looks);
        let scraped = self.scraped.values_mut().map(|scraped| &mut scraped.looks);
        probed.chain(scraped).for_each(|looks| looks.note_well(TELLING));
        self.is_well_noted = true;
    }

    /// Whether an address is known to be some instance's own.
    fn is_any_own(&self) -> bool {
        self.probed.values().any(|probed| probed.instance.is_some())
            || self.scraped.values().any(|scraped| scraped.instance.is_some())
    }

    /// How many instances are at `release`, and how many there are, where nobody knows which addresses are those of
    /// `instances`. None where that is known, where all are asked, or where none is at another one.
    fn due_among_all(&self, instances: &[InstanceId], release: &RevisionId) -> Option<(usize, usize)> {
        // After a start nobody knows which of them answered well before: then all are asked.
        if instances.is_empty() || !self.is_well_noted || self.is_any_own() {
            return None;
        }
        let is_at = |(instance, at): &(&InstanceId, &RevisionId)| *at == release || instances.contains(instance);
        let (there, all) = (self.attribution.configured().filter(is_at).count(), self.attribution.configured().count());
        (there < all).then_some((there, all))
    }

    /// A gate on the way, where nobody knows whose the addresses are: as many as there are instances at the release must
    /// answer well from it, and each that answered well before the rollback must do so still, from whichever release.
    /// Where there are fewer addresses than instances, one stands for several in turn: its answers need not be in a row.
    fn gate_among(
        &self,
        targets: &[&Looks],
        release: &RevisionId,
        (need, due, all): (usize, usize, usize),
        since: Timestamp,
        now: Timestamp,
    ) -> Verdict {
        let is_shared = targets.len() < all;
        let mut passed = 0;
        let mut worst = Verdict::Breach;
        for looks in targets {
            if looks.was_well {
                match self.passed(looks, None, need, since, now) {
                    Verdict::Ok => {}
                    not_yet => return not_yet,
                }
            }
            let from_it = |look: &&Look| {
                look.outcome == Outcome::Good && look.revision.as_ref().is_none_or(|revision| revision == release)
            };
            match self.passed(looks, Some(release), need, since, now) {
                Verdict::Ok => passed += 1,
                Verdict::Breach | Verdict::Unknown(_)
                    if is_shared && looks.after(since).filter(from_it).count() >= need =>
                {
                    passed += 1;
                }
                Verdict::Breach => {}
                unknown @ Verdict::Unknown(_) => worst = unknown,
            }
        }
        if passed >= due.min(targets.len()) { Verdict::Ok } else { worst }
    }

    /// What to look at for a gate; `None` where an instance has nothing.
    fn gate_targets(&self, instances: &[InstanceId]) -> Option<Vec<&Looks>> {
        // Where no address is known to be an instance's own, all answer for each.
        if instances.is_empty() || !self.is_any_own() {
            let probed: Vec<&Looks> = self.probed.values().map(|probed| &probed.looks).collect();
            let unprobed = self.scraped.iter().filter(|(id, scraped)| !self.is_probed(id, scraped));
            return Some(probed.into_iter().chain(unprobed.map(|(_, scraped)| &scraped.looks)).collect());
        }
        let mut all = Vec::new();
        for instance in instances {
            let is_its = |of: &Option<InstanceId>| of.as_ref() == Some(instance);
            let probed: Vec<&Looks> =
                self.probed.values().filter(|probed| is_its(&probed.instance)).map(|probed| &probed.looks).collect();
            let scraped = self.scraped.values().filter(|scraped| is_its(&scraped.instance));
            let looks = if probed.is_empty() { scraped.map(|scraped| &scraped.looks).collect() } else { probed };
            if looks.is_empty() {
                return None;
            }
            all.extend(looks);
        }
        Some(all)
    }

    fn is_probed(&self, id: &TargetId, scraped: &Scraped) -> bool {
        self.probed.contains_key(id)
            || scraped
                .instance
                .as_ref()
                .is_some_and(|instance| self.probed.values().any(|probed| probed.instance.as_ref() == Some(instance)))
    }

    /// Whether the newest answers since then are good, from `release` where it is asked for and they say which.
    fn passed(
        &self,
        looks: &Looks,
        release: Option<&RevisionId>,
        need: usize,
        since: Timestamp,
        now: Timestamp,
    ) -> Verdict {
        let scope = self.scope(None, now, Some(since));
        let is_other = |look: &Look| {
            release.is_some_and(|release| look.revision.as_ref().is_some_and(|revision| revision != release))
        };
        match looks.newest_since(since) {
            None => return Verdict::Unknown(UnknownReason::NoReading),
            Some(look) if !scope.is_fresh(look.at) => {
                return Verdict::Unknown(UnknownReason::Stale { newest: look.at });
            }
            Some(look) => match &look.outcome {
                Outcome::Bad(_) => return Verdict::Breach,
                Outcome::Unseen(fault) => {
                    return Verdict::Unknown(UnknownReason::Blind { fault: fault.clone() });
                }
                Outcome::Good if is_other(look) => return Verdict::Breach,
                Outcome::Good => {}
            },
        }
        let good = looks.after(since).take_while(|look| look.outcome == Outcome::Good && !is_other(look)).count();
        if good >= need {
            Verdict::Ok
        } else {
            Verdict::Unknown(UnknownReason::TooFewRequests { have: good as u64, need: need as u64 })
        }
    }
}
