//! Whether the service is well again: the checks after a rollback.
//!
//! Only what was seen after the steps ended counts, and nothing seen is never a pass.

use std::collections::BTreeMap;

use super::assess::{query_scale, verdict};
use super::judge::{self, Judgement};
use super::looks::{Look, Outcome};
use super::reading::{Reading, Sight};
use super::ring::Start;
use super::target::Scraped;
use super::verdict::{CheckStatus, UnknownReason, Verdict};
use super::{Health, Instances};
use crate::domain::id::{InstanceId, RevisionId, TargetId};
use crate::domain::policy::{Check, Condition, Severity, Signal};
use crate::domain::time::Timestamp;

impl Health {
    /// The verification checks on what was seen after `since`, the end of the rollback's steps, about `release`: one a
    /// signal, then `health` where endpoints are probed, then `release`. How long they must hold is the caller's to count.
    ///
    /// A signal passes on a value on the good side from at least its minimum of requests: those of its window, or where
    /// they are too few all since `since`. A default check whose series the release does not offer is left out. Where nothing
    /// but a Prometheus server is asked, its answers must be on the good side of the triggers that may act.
    #[must_use]
    pub fn verify(&self, release: &RevisionId, since: Timestamp, now: Timestamp) -> Vec<CheckStatus> {
        let scope = self.scope(Some(release), now, Some(since));
        let sight = self.sight(scope);
        let instances = self.instances(scope.revision);
        let mut checks: Vec<CheckStatus> = Vec::with_capacity(self.policy.verify.checks.len() + 2);
        checks.extend(self.policy.verify.checks.iter().filter_map(|check| self.check(check, &sight, &instances)));
        if !self.policy.is_asked {
            checks.extend(self.answers(&sight, &instances));
        }
        if self.policy.verify.health && !self.probed.is_empty() {
            checks.push(self.check_health(since, now));
        }
        if self.policy.is_asked && self.scraped.is_empty() && self.probed.is_empty() {
            let detail = "no page and no health endpoint is looked at".to_owned();
            checks.push(CheckStatus {
                name: "sight".to_owned(),
                verdict: Verdict::Unknown(UnknownReason::NoTarget),
                detail,
            });
        }
        checks.push(self.check_release(release, since));
        checks
    }

    /// That an instance among these is configured to run `release` while no page of it is from a process that began since:
    /// either the one before still answers, or nothing does. Where the pages name no instance, they are one.
    pub(super) fn not_replaced(&self, release: &RevisionId, among: impl Fn(&InstanceId) -> bool) -> Option<String> {
        let mut all: BTreeMap<Option<&InstanceId>, Vec<(&TargetId, &Scraped)>> = BTreeMap::new();
        for (id, target) in &self.scraped {
            all.entry(target.instance.as_ref()).or_default().push((id, target));
        }
        let is_old = |page: &Scraped| page.era.waiting && page.era.serves.revision.as_ref() == Some(release);
        let is_asked =
            |instance: Option<&InstanceId>| instance.is_none_or(&among) && !self.attribution.is_idle(instance);
        let (instance, pages) = all
            .into_iter()
            .find(|(instance, pages)| is_asked(*instance) && pages.iter().all(|(_, page)| is_old(page)))?;
        let answers = |(_, page): &&(&TargetId, &Scraped)| {
            let came = page.era.changed.unwrap_or_default();
            page.looks.newest_since(came).is_some_and(|look| look.outcome == Outcome::Good)
        };
        let (id, _) = pages.iter().find(answers).or(pages.first())?;
        let which = instance.map_or(id.as_str(), InstanceId::as_str);
        Some(if pages.iter().any(|page| answers(&page)) {
            format!(
                "{which} still runs the process from before {release} was put in its place: its restart had no effect"
            )
        } else {
            format!("{which} has shown no page since {release} was put in its place")
        })
    }

    /// A server's answers against the bounds of the triggers that go by them and may act. They reach back, before the end of the
    /// steps as well: one that is bad still says nothing against the release, and proves nothing.
    fn answers(&self, sight: &Sight<'_>, instances: &Instances<'_>) -> impl Iterator<Item = CheckStatus> {
        let triggers = self.policy.triggers.iter().filter(|trigger| {
            let is_checked = self.policy.verify.checks.iter().any(|check| check.signal == trigger.signal);
            trigger.severity >= Severity::Scheduled && trigger.condition.threshold().is_some() && !is_checked
        });
        let by_server = triggers
            .filter(|trigger| self.policy.signals.get(&trigger.signal).is_some_and(|it| query_scale(it).is_some()));
        by_server.filter_map(move |trigger| {
            let bound = Check { signal: trigger.signal.clone(), bad_when: trigger.condition, explicit: true };
            let mut status = self.check(&bound, sight, instances)?;
            if status.verdict == Verdict::Breach {
                status.verdict = Verdict::Unknown(UnknownReason::NotProven);
            }
            Some(status)
        })
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
                || (*reason == UnknownReason::NoReading && self.policy.operands.as_slice().is_empty())
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
            match probed.looks.newest_since(since) {
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
            None if probed.is_empty() => {
                (Verdict::Unknown(UnknownReason::NoTarget), "no endpoint that gets traffic is asked".to_owned())
            }
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
        if let Some(detail) = self.not_replaced(release, |_| true) {
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
