//! Whether the service is well again: the checks after a rollback, and the gate between two of its steps.
//!
//! Only what was seen after the steps ended counts, and nothing seen is never a pass.

use std::collections::BTreeMap;

use super::assess::verdict;
use super::judge::{self, Judgement};
use super::looks::{Look, Looks, MAX_LOOKS, Outcome, Probed};
use super::reading::{Reading, Sight};
use super::ring::Start;
use super::target::Scraped;
use super::verdict::{CheckStatus, UnknownReason, Verdict};
use super::{Health, Instances};
use crate::domain::id::{InstanceId, RevisionId, TargetId};
use crate::domain::policy::{Check, Condition, Signal};
use crate::domain::time::Timestamp;

/// Looks in a row by which an address is known to answer well.
const TELLING: usize = 2;

impl Health {
    /// The verification checks on what was seen after `since`, the end of the rollback's steps, about `release`: one a
    /// signal, then `health` where endpoints are probed, then `release`. How long they must hold is the caller's to count.
    ///
    /// A signal passes on a value on the good side from at least its minimum of requests: those of its window, or where
    /// they are too few all since `since`. A default check whose series the release does not offer is left out.
    #[must_use]
    pub fn verify(&self, release: &RevisionId, since: Timestamp, now: Timestamp) -> Vec<CheckStatus> {
        let scope = self.scope(Some(release), now, Some(since));
        let sight = self.sight(scope);
        let instances = self.instances(scope.revision);
        let mut checks: Vec<CheckStatus> = Vec::with_capacity(self.policy.verify.checks.len() + 2);
        checks.extend(self.policy.verify.checks.iter().filter_map(|check| self.check(check, &sight, &instances)));
        if self.policy.verify.health && !self.probed.is_empty() {
            checks.push(self.check_health(since, now));
        }
        checks.push(self.check_release(release, since));
        checks
    }

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
        let of_gate = |instance: &InstanceId| instances.is_empty() || instances.contains(instance);
        match worst {
            // The old process answers as well as the new one will.
            Verdict::Ok if self.not_replaced(release, of_gate).is_some() => Verdict::Unknown(UnknownReason::NoReading),
            worst => worst,
        }
    }

    /// What a gate that is not passed waits for, in words; empty where nothing is known of it.
    #[must_use]
    pub fn what_keeps(&self, instances: &[InstanceId], release: &RevisionId, since: Timestamp) -> String {
        let is_asked = |instance: Option<&InstanceId>| {
            instances.is_empty() || instance.map_or_else(|| !self.is_any_own(), |instance| instances.contains(instance))
        };
        let asked = self.probed.iter().filter(|(_, probed)| is_asked(probed.instance.as_ref()));
        let lacks = asked.filter_map(|(id, probed)| {
            let other = probed.told.as_ref().filter(|told| told.at > since && told.revision != *release);
            match (other, newest_since(probed, since).map(|look| &look.outcome)) {
                (Some(other), _) => Some(format!("{id} answers as {}, {release} is expected", other.revision)),
                (None, Some(Outcome::Bad(what) | Outcome::Unseen(what))) => Some(format!("{id}: {what}")),
                (None, None) => Some(format!("{id} has not answered yet")),
                (None, Some(Outcome::Good)) => None,
            }
        });
        lacks.take(1).collect()
    }

    /// An instance among these that is configured to run `release` while all that is scraped of it is from the process before:
    /// its restart had no effect. Where the pages name no instance, they are one.
    pub(super) fn not_replaced(
        &self,
        release: &RevisionId,
        among: impl Fn(&InstanceId) -> bool,
    ) -> Option<(&TargetId, Option<&InstanceId>)> {
        let mut all: BTreeMap<Option<&InstanceId>, (&TargetId, bool)> = BTreeMap::new();
        for (id, target) in &self.scraped {
            let instance = target.instance.as_ref();
            let is_old = target.era.waiting && target.era.serves.revision.as_ref() == Some(release);
            all.entry(instance).and_modify(|(_, all_old)| *all_old &= is_old).or_insert((id, is_old));
        }
        let is_asked =
            |instance: Option<&InstanceId>| instance.is_none_or(&among) && !self.attribution.is_idle(instance);
        let old = all.into_iter().find(|(instance, (_, is_old))| *is_old && is_asked(*instance));
        old.map(|(instance, (id, _))| (id, instance))
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
    /// answer well from it, and each that answered well before the rollback must do so still, from whichever release. Where there are
    /// fewer addresses than instances, one stands for several in turn: its answers need not be in a row.
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
        match looks.after(since).next() {
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

    fn check(&self, check: &Check, sight: &Sight<'_>, instances: &Instances<'_>) -> Option<CheckStatus> {
        let name = check.signal.to_string();
        let Some(signal) = self.policy.signals.get(&check.signal) else {
            let verdict = Verdict::Unknown(UnknownReason::NoSuchSeries { nearest: Vec::new(), gone: None });
            return check.explicit.then(|| CheckStatus { name, detail: "no such signal".to_owned(), verdict });
        };
        let mut reading = self.read(signal, sight, instances);
        if let (Err(lack), Some(since)) = (&reading.value, sight.scope.since)
            && matches!(lack.reason, UnknownReason::TooFewRequests { .. })
        {
            reading = sight.read(signal, Start::Within(since), signal.min_requests);
        }
        let is_absent = |reason: &UnknownReason| {
            matches!(reason, UnknownReason::NoSuchSeries { .. } | UnknownReason::NotOffered)
                || (*reason == UnknownReason::NoReading && self.scraped.is_empty())
        };
        if !check.explicit && reading.value.as_ref().is_err_and(|lack| is_absent(&lack.reason)) {
            return None;
        }
        // No policy about missing data applies: nothing seen is no proof.
        let judgement = match &reading.value {
            Ok(_) => judge::judge(&reading, signal, check.bad_when, false),
            Err(lack) => Judgement::Unknown(lack.clone()),
        };
        Some(CheckStatus {
            name,
            verdict: verdict(&judgement),
            detail: detail(signal, &reading, &judgement, check.bad_when),
        })
    }

    /// The newest answer of every endpoint.
    fn check_health(&self, since: Timestamp, now: Timestamp) -> CheckStatus {
        let scope = self.scope(None, now, Some(since));
        let mut unknown: Option<(UnknownReason, String)> = None;
        let mut good = 0;
        let probed = self.probed.iter().filter(|(_, probed)| !self.attribution.is_idle(probed.instance.as_ref()));
        let probed: Vec<_> = probed.collect();
        for (id, probed) in &probed {
            match newest_since(probed, since) {
                None => unknown = Some((UnknownReason::NoReading, format!("{id} has not answered yet"))),
                Some(Look { at, .. }) if !scope.is_fresh(*at) => {
                    unknown = Some((UnknownReason::Stale { newest: *at }, format!("{id} was last asked at {at}")));
                }
                Some(Look { outcome: Outcome::Good, .. }) => good += 1,
                Some(Look { outcome: Outcome::Bad(what), .. }) => {
                    return CheckStatus {
                        name: "health".to_owned(),
                        verdict: Verdict::Breach,
                        detail: format!("{id}: {what}"),
                    };
                }
                Some(Look { outcome: Outcome::Unseen(fault), .. }) => {
                    let reason = UnknownReason::Blind { fault: fault.clone() };
                    unknown = Some((reason, format!("{id} could not be asked: {fault}")));
                }
            }
        }
        let (verdict, detail) = match unknown {
            Some((reason, detail)) => (Verdict::Unknown(reason), detail),
            None => (Verdict::Ok, format!("{good} of {} endpoints healthy", probed.len())),
        };
        CheckStatus { name: "health".to_owned(), verdict, detail }
    }

    /// The release that answers, where answers tell, and the one that every instance is configured to run.
    fn check_release(&self, release: &RevisionId, since: Timestamp) -> CheckStatus {
        let status = |verdict, detail| CheckStatus { name: "release".to_owned(), verdict, detail };
        let told: Vec<_> = self.probed.iter().filter_map(|(id, probed)| Some((id, probed.told.as_ref()?))).collect();
        if let Some((id, other)) = told.iter().find(|(_, told)| told.at > since && told.revision != *release) {
            return status(Verdict::Breach, format!("{id} answers as {}, {release} is expected", other.revision));
        }
        if let Some((id, _)) = told.iter().find(|(_, told)| told.at <= since) {
            let detail = format!("{id} has not yet said which release it is");
            return status(Verdict::Unknown(UnknownReason::NoReading), detail);
        }
        if let Some((target, instance)) = self.not_replaced(release, |_| true) {
            let which = instance.map_or(target.as_str(), InstanceId::as_str);
            let detail = format!("{which} still runs the process from before {release} was put in its place");
            return status(Verdict::Unknown(UnknownReason::NoReading), detail);
        }
        let in_use = |(instance, _): &(&InstanceId, &RevisionId)| !self.attribution.is_idle(Some(instance));
        let configured: Vec<_> = self.attribution.configured().filter(in_use).collect();
        let is_read = self.attribution.read().is_some_and(|read| read > since);
        match configured.iter().find(|(_, revision)| *revision != release) {
            Some((instance, other)) if is_read => {
                status(Verdict::Breach, format!("{instance} is at {other}, {release} is expected"))
            }
            None if is_read && !configured.is_empty() => status(Verdict::Ok, self.who_serves(release, told.len())),
            Some(_) | None => {
                status(Verdict::Unknown(UnknownReason::NoReading), "the current release was not read yet".to_owned())
            }
        }
    }

    fn who_serves(&self, release: &RevisionId, told: usize) -> String {
        match told {
            0 => format!("all instances are at {release}"),
            1 => format!("1 endpoint answers as {release}"),
            _ => format!("{told} endpoints answer as {release}"),
        }
    }
}

fn newest_since(probed: &Probed, since: Timestamp) -> Option<&Look> {
    probed.looks.after(since).next()
}

/// What was seen against what is asked.
fn detail(signal: &Signal, reading: &Reading, judgement: &Judgement, bad_when: Condition) -> String {
    let unit = signal.unit;
    let bound = match bad_when {
        Condition::Above(bound) => format!("at most {}", unit.format(bound.get())),
        Condition::Below(bound) => format!("at least {}", unit.format(bound.get())),
        Condition::WorseThanBaseline(_) => "no worse than before".to_owned(),
    };
    let value = match &reading.value {
        Ok(value) => unit.format(value.get()),
        Err(lack) => return format!("{}; {bound} asked", lack.reason),
    };
    match judgement {
        Judgement::Unknown(lack) => format!("{value}; {bound} asked: {}", lack.reason),
        Judgement::Straddled(reason) => format!("{value}; {bound} asked: {reason}"),
        Judgement::Unproven => format!("{value} in {} requests; {bound} asked, too few to tell", reading.samples),
        Judgement::Good | Judgement::Bad | Judgement::AssumedGood | Judgement::AssumedBad => {
            format!("{value} in {} samples; {bound} asked", reading.samples)
        }
    }
}
