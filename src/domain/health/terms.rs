//! A trigger's terms: each signal judged against its fixed bound, and what they come to together.

use super::Health;
use super::judge::{self, Judgement, Tally};
use super::reading::{Basis, Lack, Reading, Sight};
use super::ring::Start;
use super::trigger::Finding;
use super::verdict::{Evidence, UnknownReason};
use super::views::Views;
use super::watch::Watch;
use crate::domain::id::{RevisionId, SignalName};
use crate::domain::policy::{Combine, Condition, Signal, Trigger};
use crate::domain::time::Timestamp;

/// Every signal of the policy, read.
pub(super) type Readings<'a> = [(&'a Signal, Reading)];

/// One signal of a trigger, judged.
#[derive(Clone, Debug)]
pub(super) struct Judged<'a> {
    pub(super) signal: &'a Signal,
    pub(super) reading: &'a Reading,
    pub(super) condition: Condition,
    pub(super) judgement: Judgement,
    /// The requests that prove it or not.
    pub(super) tally: Option<Tally>,
}

/// All of a trigger's terms, and which of them decides.
pub(super) struct Terms<'a> {
    pub(super) all: Vec<Judged<'a>>,
    pub(super) lead: usize,
}

impl<'a> Terms<'a> {
    /// A trigger with one signal.
    pub(super) fn one(signal: &'a Signal, reading: &'a Reading, condition: Condition, judgement: Judgement) -> Self {
        Self { all: vec![Judged { signal, reading, condition, judgement, tally: None }], lead: 0 }
    }
}

/// The signal of this name and its reading.
pub(super) fn find<'a>(readings: &'a Readings<'a>, name: &SignalName) -> Option<(&'a Signal, &'a Reading)> {
    readings.iter().find(|(signal, _)| signal.name == *name).map(|(signal, reading)| (*signal, reading))
}

impl Health {
    /// Judges a trigger that does not compare, and moves its life on. `None` where the policy has no such signal.
    pub(super) fn advance<'a>(
        &self,
        trigger: &Trigger,
        readings: &'a Readings<'a>,
        watch: &mut Watch,
        views: &Views<'_>,
        grace: bool,
    ) -> Option<Terms<'a>> {
        let mut all = Vec::new();
        let mut findings = Vec::new();
        for (index, (name, condition)) in trigger.terms().enumerate() {
            let (signal, reading) = find(readings, name)?;
            let sight = views.of(signal);
            let (judgement, tally) = if self.is_coming_up(signal, reading, sight, trigger.hold_for) {
                // That is seen well enough.
                (Judgement::Unknown(Lack::of(UnknownReason::WarmingUp)), None)
            } else {
                self.judge_term(index, (signal, condition), reading, watch, sight, grace)
            };
            let is_over = self.is_over(reading, signal, condition, views.all.scope.revision);
            let is_cold = || judgement == Judgement::Bad && views.is_cold(signal, condition);
            findings.push(finding(&judgement, is_over || is_cold()));
            all.push(Judged { signal, reading, condition, judgement, tally });
        }
        let how = trigger.combined.as_ref().map_or(Combine::All, |combined| combined.how);
        let (lead, finding) = come_to(how, &findings)?;
        watch.lifecycle.advance(views.all.scope.now, finding, trigger.hold_for, self.policy.interval);
        Some(Terms { all, lead })
    }

    fn judge_term(
        &self,
        index: usize,
        (signal, condition): (&Signal, Condition),
        reading: &Reading,
        watch: &mut Watch,
        sight: &Sight<'_>,
        grace: bool,
    ) -> (Judgement, Option<Tally>) {
        let judgement = judge_now(reading, signal, condition, grace);
        if let Some(pooled) = pool(index, watch, signal, condition, sight)
            && matches!(judgement, Judgement::Unproven | Judgement::Straddled(_))
            && pooled.is_proven(signal.confidence)
        {
            return (Judgement::Bad, Some(pooled));
        }
        (judgement, tally(&reading.basis, condition))
    }

    /// Whether the newest requests say that a fault is over, though the window still has it: it fires no more. Where the
    /// service answers no request at all, those before it fell silent say nothing; nor do those of the release in question
    /// where another one is asked about.
    fn is_over(&self, reading: &Reading, signal: &Signal, condition: Condition, revision: Option<&RevisionId>) -> bool {
        let is_another =
            revision.is_some_and(|revision| self.judged.as_ref().is_some_and(|(judged, _)| judged != revision));
        if is_another {
            return false;
        }
        let followed = self.followed.get(&signal.name);
        let known = followed.and_then(|followed| Some((followed, followed.candidate.as_ref()?)));
        let is_above = matches!(condition, Condition::Above(_));
        let window = Tally::of(&reading.basis, condition).filter(|_| is_above);
        known
            .zip(window)
            .is_some_and(|((followed, candidate), window)| followed.latest.is_over(candidate, condition, window))
    }

    /// What the second signal says that the trigger asks to agree.
    pub(super) fn confirmation(&self, trigger: &Trigger, readings: &Readings<'_>, grace: bool) -> Option<Evidence> {
        let term = trigger.confirm_with.as_ref()?;
        let (signal, reading) = find(readings, &term.signal)?;
        let judgement = judge_now(reading, signal, term.condition, grace);
        let proof = tally(&reading.basis, term.condition).and_then(|tally| tally.proof(signal.confidence));
        let verdict = super::assess::verdict(&judgement);
        Some(Evidence { proof, ..super::assess::evidence(signal, reading, verdict, Some(term.condition)) })
    }
}

/// `is_passing` is whether what is beyond the bound is over, or is a cold start: that runs the clock and fires nothing.
fn finding(judgement: &Judgement, is_passing: bool) -> Finding {
    match judgement {
        Judgement::Good | Judgement::AssumedGood => Finding::Good,
        Judgement::Bad if is_passing => Finding::Unproven,
        Judgement::Bad | Judgement::AssumedBad => Finding::Bad,
        Judgement::Unproven | Judgement::Straddled(_) => Finding::Unproven,
        Judgement::Unknown(_) => Finding::Unknown,
    }
}

/// By what is in the window alone.
fn judge_now(reading: &Reading, signal: &Signal, condition: Condition, grace: bool) -> Judgement {
    let judgement = judge::judge(reading, signal, condition, grace);
    match Tally::certain(&reading.basis, condition) {
        Some((certain, reason))
            if matches!(judgement, Judgement::Bad | Judgement::Unproven) && !certain.is_proven(signal.confidence) =>
        {
            Judgement::Straddled(reason)
        }
        Some(_) | None => judgement,
    }
}

/// A term's requests since the onset, where one is suspected.
fn pool(index: usize, watch: &mut Watch, signal: &Signal, condition: Condition, sight: &Sight<'_>) -> Option<Tally> {
    let now: Timestamp = sight.scope.now;
    let until = watch.lifecycle.pooled_until(index)?;
    let basis = sight.basis(signal, Start::After(until));
    Some(watch.lifecycle.pool(index, tally(&basis, condition)?, now))
}

/// What is counted for certain.
fn tally(basis: &Basis, condition: Condition) -> Option<Tally> {
    Tally::certain(basis, condition).map(|(certain, _)| certain).or(Tally::of(basis, condition))
}

/// What the terms come to, and the first of them that makes it so. `None` of none.
fn come_to(how: Combine, findings: &[Finding]) -> Option<(usize, Finding)> {
    let finding = match how {
        Combine::All => findings.iter().min(),
        Combine::Any => findings.iter().max(),
    };
    let finding = *finding?;
    findings.iter().position(|other| *other == finding).map(|lead| (lead, finding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_terms_come_to() {
        use Finding::{Bad, Good, Unknown, Unproven};
        type Lead = (usize, Finding);
        let cases: [(&[Finding], Lead, Lead); 7] = [
            (&[Bad], (0, Bad), (0, Bad)),
            (&[Bad, Bad], (0, Bad), (0, Bad)),
            (&[Bad, Good], (1, Good), (0, Bad)),
            (&[Unknown, Bad], (0, Unknown), (1, Bad)),
            (&[Unknown, Good], (1, Good), (0, Unknown)),
            (&[Bad, Unproven, Unknown], (2, Unknown), (0, Bad)),
            (&[Unknown, Unproven, Good], (2, Good), (1, Unproven)),
        ];
        for (findings, all, any) in cases {
            assert_eq!(come_to(Combine::All, findings), Some(all), "all of {findings:?}");
            assert_eq!(come_to(Combine::Any, findings), Some(any), "any of {findings:?}");
        }
        assert_eq!(come_to(Combine::All, &[]), None);
    }
}
