//! Everything that is known of a workload's health, now.

use super::builtin;
use super::history::History;
use super::judge::Judgement;
use super::looks::{Look, Outcome, Probed};
use super::queried::Queried;
use super::reading::{Basis, Reading, Sight};
use super::rollout;
use super::terms::{self, Terms};
use super::trigger::MAX_UNKNOWN_INTERVALS;
use super::verdict::{
    Assessment, Blindness, Combined, Compared, Evidence, Subject, TriggerStatus, UnknownReason, Unseen, Verdict,
};
use super::watch::Watch;
use super::{Health, Instances};
use crate::domain::policy::{Builtin, Condition, Formula, Severity, Signal, Trigger};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::Finite;

/// Sight is lost after five intervals without it, and never sooner than this.
const MIN_PATIENCE: Span = Span::from_secs(15);

/// What one trigger contributes to the whole.
pub(super) struct Judged<'a> {
    pub(super) trigger: &'a Trigger,
    pub(super) signal: &'a Signal,
    pub(super) judgement: Judgement,
    pub(super) is_quiet: bool,
    pub(super) sightless_since: Option<Timestamp>,
}

impl Health {
    /// Rolls everything to `now`, advances every trigger's lifecycle and says what is known about `subject`; about
    /// whatever runs while that is not known. Costs a look at every target for every signal: once an interval is enough,
    /// or whenever something was observed that may matter.
    ///
    /// `healthy` asks for real data: every trigger that may act good and quiet, with its minimum of requests seen. A trigger
    /// whose signal can't exist here, whose silence the policy calls good, or whose latency convention no page follows
    /// while its errors are counted, is no obstacle, as long as at least one such trigger was really judged. Nor may an instance
    /// still run the process from before the release.
    ///
    /// A firing trigger stays firing while nothing is known; its evidence then says unknown, and is no ground to act on.
    pub fn assess(&mut self, subject: Option<&Subject>, now: Timestamp) -> Assessment {
        self.turn_to(subject, now);
        self.prune(now);
        let added = self.follow(subject, now);
        let scope = self.scope(subject.map(|subject| &subject.revision), now, None);
        let grace = self.judging_since.is_none_or(|since| now.since(since) <= self.patience());
        let mut watches = std::mem::take(&mut self.watches);
        let instances = if self.uses_builtins() { self.instances(scope.revision) } else { Instances::new() };
        let views = self.views(subject, now);
        let readings: Vec<(&Signal, Reading)> = self
            .policy
            .signals
            .values()
            .map(|signal| (signal, self.read(signal, views.of(signal), &instances)))
            .collect();
        let mut statuses = Vec::with_capacity(watches.len());
        let mut judged = Vec::with_capacity(watches.len());
        for (trigger, watch) in self.policy.triggers.iter().zip(&mut watches) {
            let Some((signal, reading)) = terms::find(&readings, &trigger.signal) else { continue };
            let added = added.get(&signal.name).map_or(&[][..], Vec::as_slice);
            // A comparison weighs every request, however few.
            let few = (watch.comparer.is_some() && is_few(reading))
                .then(|| views.all.read(signal, views.all.scope.window(signal.window), 1));
            let (terms, compared) = match (&mut watch.comparer, builtin_of(signal)) {
                (Some(comparer), None) => {
                    let reading = few.as_ref().unwrap_or(reading);
                    let (judgement, compared) = self.compare(comparer, trigger, signal, reading, added, &views);
                    (Terms::one(signal, reading, trigger.condition, judgement), compared)
                }
                (Some(comparer), Some(builtin)) => {
                    let (judgement, compared) =
                        self.compare_events(comparer, trigger, builtin, reading, &views, &instances);
                    (Terms::one(signal, reading, trigger.condition, judgement), compared)
                }
                (None, _) => match self.advance(trigger, &readings, watch, &views, grace) {
                    Some(terms) => (terms, None),
                    None => continue,
                },
            };
            let lead = &terms.all[terms.lead];
            watch.note_sight(&lead.judgement, now);
            let confirmation = self.confirmation(trigger, &readings, grace).map(Box::new);
            let mut status = TriggerStatus { confirmation, ..status(trigger, &terms, compared, watch) };
            if lead.judgement == Judgement::AssumedBad {
                status.evidence.newest = self.last_silence(lead.signal, &views.all);
            }
            self.look_around(&mut status, &views, &instances);
            statuses.push(status);
            let (is_quiet, sightless_since) = (watch.is_quiet(), watch.sightless_since);
            let (signal, _) = terms::find(&readings, &lead.signal.name).unwrap_or((signal, reading));
            let judgement = lead.judgement.clone();
            judged.push(Judged { trigger, signal, judgement, is_quiet, sightless_since });
        }
        let is_replaced = scope.revision.is_none_or(|revision| self.not_replaced(revision, |_| true).is_none());
        let assessment = Assessment {
            at: now,
            revision: scope.revision.cloned(),
            triggers: statuses,
            signals: readings.iter().map(|(signal, reading)| plain_evidence(signal, reading)).collect(),
            blind: blindness(&judged, now, self.patience()).filter(|_| !self.rests()),
            healthy: is_healthy(&judged) && is_replaced && !readings.iter().any(is_down),
            asides: Vec::new(),
        };
        self.has_sight = that_matter(&judged).all(|one| one.sightless_since.is_none());
        if self.rests() {
            // What comes up again is given time to be seen.
            watches.iter_mut().for_each(|watch| watch.sightless_since = None);
        }
        self.watches = watches;
        self.remember(&assessment);
        assessment
    }

    /// Notes which release is judged; another one than before has a clean slate.
    fn turn_to(&mut self, subject: Option<&Subject>, now: Timestamp) {
        self.judging_since.get_or_insert(now);
        let Some(subject) = subject else { return };
        if let Some(seen) = self.rollout.as_mut().filter(|seen| subject.known_good && seen.desired == subject.revision)
        {
            seen.has_arrived = true;
        }
        if self.judged.as_ref().is_some_and(|(revision, _)| *revision != subject.revision) {
            self.judging_since = Some(now);
            self.watches.iter_mut().for_each(Watch::reset);
        }
        self.judged = Some((subject.revision.clone(), subject.since));
    }

    /// Whether there is nothing to see, because nothing is meant to run.
    fn rests(&self) -> bool {
        self.rollout.as_ref().is_some_and(|seen| seen.rests)
    }

    fn prune(&mut self, now: Timestamp) {
        if self.pruned.is_some_and(|pruned| now.since(pruned) < self.policy.interval) {
            return;
        }
        self.pruned = Some(now);
        for target in self.scraped.values_mut() {
            target.prune(now, &self.rules);
        }
    }

    fn remember(&mut self, assessment: &Assessment) {
        for evidence in &assessment.signals {
            match self.history.get_mut(&evidence.signal) {
                Some(history) => history.push(assessment.at, evidence.value),
                None if evidence.value.is_some() => {
                    let mut history = History::new(self.policy.interval);
                    history.push(assessment.at, evidence.value);
                    self.history.insert(evidence.signal.clone(), history);
                }
                None => {}
            }
        }
    }

    /// Whether everything that may act could be seen at the last judgement. Lost sight is over then, and not before: after a
    /// restart nothing was seen yet.
    pub(in crate::domain) fn has_sight(&self) -> bool {
        self.has_sight
    }

    /// How long sight may be gone before it counts as lost.
    pub(in crate::domain) fn patience(&self) -> Span {
        self.policy.interval.times(MAX_UNKNOWN_INTERVALS).max(MIN_PATIENCE)
    }

    /// The newest look at the release that found it silent, where silence counts: a page without the series, an address
    /// that refuses, a server's answer without a series.
    fn last_silence(&self, signal: &Signal, sight: &Sight<'_>) -> Option<Timestamp> {
        if query_scale(signal).is_some() {
            return self.queried.get(&signal.name).and_then(Queried::answered);
        }
        let seen = |look: &&Look| !matches!(look.outcome, Outcome::Unseen(_));
        let pages = sight.targets.iter().filter_map(|target| target.looks.last());
        let probes = self.probed.values().filter(|probed| probed.era.is_of(sight.scope.revision));
        pages.chain(probes.filter_map(Probed::last)).filter(seen).map(|look| look.at).max()
    }

    pub(super) fn uses_builtins(&self) -> bool {
        self.policy.signals.values().any(|signal| builtin_of(signal).is_some())
    }

    /// Reads a signal over its own window.
    pub(super) fn read(&self, signal: &Signal, sight: &Sight<'_>, instances: &Instances<'_>) -> Reading {
        if let Some(scale) = query_scale(signal) {
            let unasked = || Reading::unknown(UnknownReason::NoReading);
            return self.queried.get(&signal.name).map_or_else(unasked, |queried| queried.read(sight.scope, scale));
        }
        match builtin_of(signal) {
            Some(Builtin::ProgressDeadline) => rollout::read(self.rollout.as_ref(), sight.scope),
            Some(Builtin::Unavailable) => self.unavailable(instances, sight.scope),
            Some(builtin) => builtin::read(builtin, instances, self.has_instances(), sight.scope, signal.window),
            None => {
                let reading = sight.read(signal, sight.scope.window(signal.window), signal.min_requests);
                if !signal.counts_errors() {
                    return reading;
                }
                self.out_of_service(signal, &reading, sight).unwrap_or(reading)
            }
        }
    }
}

/// The factor to the base unit of a signal that a Prometheus server computes.
pub(super) fn query_scale(signal: &Signal) -> Option<f64> {
    signal.candidates.iter().find(|candidate| candidate.formula == Formula::Query).map(|candidate| candidate.scale)
}

pub(super) fn builtin_of(signal: &Signal) -> Option<Builtin> {
    signal.candidates.iter().find_map(|candidate| match candidate.formula {
        Formula::Builtin(builtin) => Some(builtin),
        Formula::Ratio { .. }
        | Formula::Histogram { .. }
        | Formula::Summary { .. }
        | Formula::Gauge { .. }
        | Formula::Rate { .. }
        | Formula::Query => None,
    })
}

impl Judged<'_> {
    fn lacks_series(&self) -> bool {
        matches!(&self.judgement, Judgement::Unknown(lack) if matches!(lack.reason, UnknownReason::NoSuchSeries { .. }))
    }

    /// A latency that is only looked for by convention, and that no page offers.
    fn is_unoffered_latency(&self) -> bool {
        let by_convention = self.signal.candidates.iter().all(|candidate| {
            candidate.convention.is_some()
                && match candidate.formula {
                    Formula::Histogram { .. } | Formula::Summary { .. } => true,
                    Formula::Ratio { .. }
                    | Formula::Gauge { .. }
                    | Formula::Rate { .. }
                    | Formula::Query
                    | Formula::Builtin(_) => false,
                }
        });
        by_convention && self.lacks_series()
    }

    fn counts_errors(&self) -> bool {
        let is_ratio = self.signal.candidates.iter().any(|c| matches!(c.formula, Formula::Ratio { .. }));
        is_ratio && !self.lacks_series()
    }

    /// Nothing here could ever tell, or there is no release before to compare with.
    fn is_not_offered(&self) -> bool {
        let Judgement::Unknown(lack) = &self.judgement else { return false };
        lack.reason == UnknownReason::NotOffered || lack.reason == UnknownReason::NoBaseline
    }
}

/// The triggers that may lead to a rollback, or all of them where none may; less latencies that no page offers while its
/// errors are counted.
fn that_matter<'a, 'b>(judged: &'a [Judged<'b>]) -> impl Iterator<Item = &'a Judged<'b>> {
    let any_acts = judged.iter().any(|one| one.trigger.severity >= Severity::Scheduled);
    let least = if any_acts { Severity::Scheduled } else { Severity::Alert };
    let errors = judged.iter().any(|one| one.trigger.severity >= least && one.counts_errors());
    judged.iter().filter(move |one| one.trigger.severity >= least && !(errors && one.is_unoffered_latency()))
}

fn blindness(judged: &[Judged<'_>], now: Timestamp, patience: Span) -> Option<Blindness> {
    let lost = || {
        that_matter(judged).filter_map(|one| match &one.judgement {
            Judgement::Unknown(lack) => {
                let since = one.sightless_since.filter(|since| now.since(*since) > patience)?;
                Some((since, one, &lack.reason))
            }
            Judgement::Good
            | Judgement::Bad
            | Judgement::Unproven
            | Judgement::Straddled(_)
            | Judgement::AssumedGood
            | Judgement::AssumedBad => None,
        })
    };
    let (since, first, reason) = lost().min_by_key(|(since, _, _)| *since)?;
    Some(Blindness {
        since,
        unseen: Unseen::Signals,
        triggers: lost().map(|(_, one, _)| one.trigger.name.clone()).collect(),
        reason: format!("{}: {reason}", first.signal.name),
    })
}

pub(super) fn is_healthy(judged: &[Judged<'_>]) -> bool {
    let mut is_any_good = false;
    for one in that_matter(judged).filter(|one| !one.is_not_offered()) {
        match one.judgement {
            Judgement::Good if one.is_quiet => is_any_good = true,
            Judgement::AssumedGood if one.is_quiet => {}
            Judgement::Good
            | Judgement::AssumedGood
            | Judgement::Bad
            | Judgement::AssumedBad
            | Judgement::Unproven
            | Judgement::Straddled(_)
            | Judgement::Unknown(_) => return false,
        }
    }
    is_any_good
}

/// The share of health endpoints that fail beyond which a release is not well.
const MOSTLY: f64 = 0.5;

/// A health endpoint that is known to fail in most places, whether a trigger asks for it or not.
pub(super) fn is_down((signal, reading): &(&Signal, Reading)) -> bool {
    let is_failing = || reading.value.as_ref().is_ok_and(|share| share.get() > MOSTLY);
    builtin_of(signal) == Some(Builtin::Health) && is_failing()
}

fn is_few(reading: &Reading) -> bool {
    matches!(&reading.value, Err(lack) if matches!(lack.reason, UnknownReason::TooFewRequests { .. }))
}

pub(super) fn status(trigger: &Trigger, terms: &Terms<'_>, compared: Option<Compared>, watch: &Watch) -> TriggerStatus {
    let hold_for =
        if compared.as_ref().is_some_and(|compared| compared.beside) { Span::ZERO } else { trigger.hold_for };
    let of = |one: &terms::Judged<'_>| Evidence {
        proof: one.tally.and_then(|tally| tally.proof(one.signal.confidence)),
        ..evidence(one.signal, one.reading, verdict(&one.judgement), Some(one.condition))
    };
    let combined = trigger
        .combined
        .as_ref()
        .map(|combined| Box::new(Combined { how: combined.how, terms: terms.all.iter().map(of).collect() }));
    TriggerStatus {
        name: trigger.name.clone(),
        severity: trigger.severity,
        hold_for,
        state: watch.state(),
        evidence: Evidence { compared: compared.map(Box::new), ..of(&terms.all[terms.lead]) },
        combined,
        confirmation: None,
    }
}

/// The judgement in the words for others.
pub(super) fn verdict(judgement: &Judgement) -> Verdict {
    match judgement {
        Judgement::Good | Judgement::AssumedGood => Verdict::Ok,
        Judgement::Bad | Judgement::AssumedBad => Verdict::Breach,
        Judgement::Unproven => Verdict::Unknown(UnknownReason::NotProven),
        Judgement::Straddled(reason) => Verdict::Unknown(reason.clone()),
        Judgement::Unknown(lack) => Verdict::Unknown(lack.reason.clone()),
    }
}

fn plain_evidence(signal: &Signal, reading: &Reading) -> Evidence {
    let verdict = match &reading.value {
        Ok(_) => Verdict::Ok,
        Err(lack) => Verdict::Unknown(lack.reason.clone()),
    };
    evidence(signal, reading, verdict, None)
}

pub(super) fn evidence(signal: &Signal, reading: &Reading, verdict: Verdict, condition: Option<Condition>) -> Evidence {
    let samples = match &reading.value {
        Err(lack) => match lack.reason {
            UnknownReason::TooFewRequests { have, .. } => have,
            UnknownReason::NoTarget
            | UnknownReason::NoReading
            | UnknownReason::NoSuchSeries { .. }
            | UnknownReason::NotProven
            | UnknownReason::Stale { .. }
            | UnknownReason::OffTheScale { .. }
            | UnknownReason::NoHistogram
            | UnknownReason::NotFinite
            | UnknownReason::NothingCounted
            | UnknownReason::WarmingUp
            | UnknownReason::NoBaseline
            | UnknownReason::CoarseBucket { .. }
            | UnknownReason::OwnBurst { .. }
            | UnknownReason::NotOffered
            | UnknownReason::Partial { .. }
            | UnknownReason::Blind { .. } => 0,
        },
        Ok(_) => reading.samples,
    };
    Evidence {
        signal: signal.name.clone(),
        unit: signal.unit,
        verdict,
        value: reading.value.as_ref().ok().copied(),
        interval: interval(&reading.basis, signal.confidence),
        proof: None,
        condition,
        samples,
        unanswered: reading.is_unanswered,
        window: signal.window,
        newest: reading.newest,
        convention: reading.convention.map(str::to_owned),
        compared: None,
        around: None,
    }
}

fn interval(basis: &Basis, confidence: f64) -> Option<(Finite, Finite)> {
    match basis {
        Basis::Counts { bad, total } => {
            let (low, high) = super::interval::Share::new(*bad, *total)?.interval(confidence);
            Finite::new(low).zip(Finite::new(high))
        }
        Basis::Plain | Basis::Buckets { .. } => None,
    }
}
