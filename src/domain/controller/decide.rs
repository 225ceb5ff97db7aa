//! From judgement to decision: opening an incident, watching it, and asking the guards.

use super::{Controller, Output};
use crate::domain::health::verdict::{TriggerState, TriggerStatus, UnknownReason, Verdict};
use crate::domain::id::{InstanceId, RevisionId, TriggerName};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::grounds::{Grounds, Question};
use crate::domain::incident::record::{Cause, Closing, Event, Goal};
use crate::domain::incident::state::{HELD_TOLD_AGAIN, Incident, beside};
use crate::domain::policy::{Habitat, Severity};
use crate::domain::response::guard::{self, FleetView, Limits, Ruling, Situation};
use crate::domain::response::hold::Hold;
use crate::domain::response::ladder;
use crate::domain::response::plan::{Finding, Plan, Purpose};
use crate::domain::response::strategy::{self, Ground};
use crate::domain::time::{Span, Timestamp};

/// How long a preflight's result counts.
const PREFLIGHT_FRESH: Span = Span::from_secs(5);

/// Time between two preflights of a plan that did not pass.
const PREFLIGHT_RETRY: Span = Span::from_secs(30);

/// Times that a pending trigger's progress is noted within its `for`, at least.
const PENDING_NOTES: u64 = 10;

/// Intervals between two such notes at most: from the last one on a start goes on with what is pending, unless more time has
/// passed than a trigger may be pending unseen.
const NOTED_INTERVALS: u64 = 3;

/// What nobody could look at is looked at again soon.
fn pause(findings: &[Finding]) -> Span {
    if findings.iter().all(|finding| finding.passing) { PREFLIGHT_FRESH } else { PREFLIGHT_RETRY }
}

impl Controller {
    /// With no incident open: begins one where a trigger is pending or fires, or where sight is lost. That of this workload
    /// it is, not where the daemon sees nothing in time of any of them: people are told of that once.
    pub(super) fn open(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        if let Some(fault) = self.gravest_fault() {
            return self.detect(fault, now, out);
        }
        if let Some((cause, onset)) = self.suspect() {
            let event = Event::Suspected {
                cause,
                from: self.state.current.clone(),
                goal: self.present_goal(now).ok(),
                onset,
                mode: self.policy.mode,
                strategy: self.policy.strategy,
            };
            return self.record(event, now, out);
        }
        match &self.assessment.blind {
            Some(_) if fleet.is_late => false,
            Some(blind) => {
                let cause = Cause::Blind { reason: blind.reason.clone() };
                let onset = blind.since;
                self.detect((cause, onset), now, out)
            }
            None => false,
        }
    }

    /// Suspected: waits for the trigger to fire or to subside.
    pub(super) fn watch_suspect(&mut self, now: Timestamp, out: &mut Output) -> bool {
        if let Some(fault) = self.gravest_fault() {
            return self.detect(fault, now, out);
        }
        if !self.is_anything_breached() {
            return self.record(Event::Closed { how: self.how_the_suspect_went() }, now, out);
        }
        let Some(held) = self.held_by_suspect() else { return false };
        let Some(incident) = &self.state.incident else { return false };
        let (Cause::Trigger { hold_for, .. }, noted) = (&incident.cause, incident.pending) else { return false };
        let interval = self.policy.interval;
        let pause =
            Span::from_millis(hold_for.as_millis() / PENDING_NOTES).min(interval.times(NOTED_INTERVALS)).max(interval);
        let last = noted.map_or(incident.phase_since, |(_, at)| at);
        now.since(last) >= pause && self.record(Event::StillPending { held }, now, out)
    }

    /// Escalated: over once the service has been well, by other means, for as long as a release must be to count as good.
    /// Where the smoke test did not pass, that it would pass now only a human can find out.
    /// Lost sight is over once it is back: what there is to see by then is judged.
    pub(super) fn watch_escalated(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        if let Some(news) = self.news(incident, fleet) {
            return self.detect(news, now, out);
        }
        if let Some(cause) = self.untold_aside(incident) {
            return self.record(Event::FoundBeside { cause }, now, out);
        }
        // No signal will ever show that what was reported is over.
        if self.is_reported() {
            return false;
        }
        if matches!(incident.cause, Cause::Blind { .. }) && self.has_subsided(incident) {
            return self.close(Closing::Subsided, now, out);
        }
        let is_quiet = !self.is_anything_breached() && self.assessment.asides.is_empty();
        let since = self.healthy_since.filter(|_| is_quiet && !incident.smoke_owed);
        let well =
            since.is_some_and(|since| now.since(since.max(incident.phase_since)) >= self.policy.known_good_after);
        well && self.record(Event::Closed { how: Closing::Subsided }, now, out)
    }

    /// Detected, held or awaiting approval: asks the guards, and plans where they let pass.
    pub(super) fn consider(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else { return false };
        // What was begun is proven or handed over. A quiet trigger proves nothing: its windows began anew with the goal.
        if incident.plan.is_some() {
            return self.climb(now, fleet, out);
        }
        if let Some(news) = self.news(incident, fleet) {
            return self.detect(news, now, out);
        }
        if self.has_subsided(incident) {
            return self.close(Closing::Subsided, now, out);
        }
        if matches!(incident.cause, Cause::Manual { .. }) && incident.hold.is_some() {
            return self.close(Closing::Refused, now, out);
        }
        let ruling = self.rule(incident, now, fleet);
        // After a start it counts from the first look on.
        if ruling.attributed || (incident.attributed.is_some() && self.attributed_at.is_none()) {
            self.attributed_at = Some(now);
        }
        self.asked = (fleet.clone(), Question::Guards);
        let hold = ruling.hold().cloned();
        let goal = ruling.goal.clone().filter(|_| incident.cause.aside().is_none());
        if let Some(reason) = ladder::held_for_too_long(incident, hold.as_ref(), now) {
            self.ruling = Some(ruling);
            return self.escalate(reason, now, out);
        }
        let forced = ruling.forced();
        self.ruling = Some(ruling);
        match (hold, goal) {
            // Proof comes and goes where there is little traffic: that is no news of what is held anyway.
            (Some(Hold::EvidenceUnknown { .. }), _) if self.is_held_by_others(now) => false,
            // Nor is it that after a restart nothing was seen yet.
            (Some(Hold::StaleEvidence { .. }), _) if self.is_held_by_others(now) && self.has_just_begun(now) => false,
            (Some(hold), goal) => self.hold(hold, goal, now, out),
            (None, Some(goal)) => self.plan(Purpose::First, 1, goal, forced, now, out),
            (None, None) => false,
        }
    }

    /// An operator's word holds for as long as it stands, and what is seen right after it.
    fn is_held_by_others(&self, now: Timestamp) -> bool {
        let hold = self.state.incident.as_ref().and_then(|incident| incident.hold.as_ref());
        let guards = || self.ruling.iter().flat_map(|ruling| &ruling.guards);
        let stands = |hold: &Hold| guards().any(|guard| guard.name == hold.as_str() && guard.hold.is_some());
        hold.is_some_and(|hold| match hold {
            Hold::Paused { .. } | Hold::EvidenceUnknown { .. } => false,
            hold => !ladder::is_an_operators(hold) || stands(hold) || self.has_just_begun(now),
        })
    }

    pub(super) fn has_just_begun(&self, now: Timestamp) -> bool {
        self.began.is_none_or(|began| now.since(began) <= self.health.patience())
    }

    /// Holds, unless it is held for the same reason already. What an operator holds half way is told again now and then, since
    /// nothing else ends it.
    pub(super) fn hold(&mut self, hold: Hold, goal: Option<Goal>, now: Timestamp, out: &mut Output) -> bool {
        self.preflight_asked = None;
        let same = self.state.incident.as_ref().is_some_and(|incident| {
            matches!(incident.phase, Phase::Held | Phase::AwaitingApproval)
                && incident.hold.as_ref().is_some_and(|before| before.is_same_reason(&hold))
                && !incident.is_another_to_approve(&hold, goal.as_ref())
        });
        let is_told_again = self.state.incident.as_ref().is_some_and(|incident| {
            incident.plan.is_some()
                && ladder::is_an_operators(&hold)
                && now.since(incident.phase_since) >= HELD_TOLD_AGAIN
        });
        if same && !is_told_again {
            return false;
        }
        let grounds = self.grounds(now).filter(|_| !matches!(hold, Hold::Preflight { .. }));
        self.record(Event::Held { hold, goal, grounds }, now, out)
    }

    /// Builds the plan and proposes it.
    pub(super) fn plan(
        &mut self,
        purpose: Purpose,
        attempt: u32,
        goal: Goal,
        forced: Vec<String>,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        match self.build_plan(purpose, attempt, &goal, now) {
            Some(plan) => self.propose(plan, goal, forced, now, out),
            None => false,
        }
    }

    /// Has a plan looked over, and records it once nothing stands in its way.
    pub(super) fn propose(
        &mut self,
        plan: Plan,
        goal: Goal,
        forced: Vec<String>,
        now: Timestamp,
        out: &mut Output,
    ) -> bool {
        let is_passed = self.preflight.as_ref().is_some_and(|preflight| {
            preflight.plan.is_same_but_for_time(&plan)
                && preflight.findings.is_empty()
                && now.since(preflight.at) <= PREFLIGHT_FRESH
        });
        if is_passed && let Some(moved) = self.wait_for_recording(now, out) {
            return moved;
        }
        match self.preflight.take_if(|preflight| preflight.plan.is_same_but_for_time(&plan)) {
            Some(preflight) if preflight.findings.is_empty() && now.since(preflight.at) <= PREFLIGHT_FRESH => {
                self.preflight_asked = None;
                if plan.purpose == Purpose::First {
                    self.health.note_well();
                }
                let grounds = self.grounds(now);
                self.record(Event::Planned { plan: Box::new(plan), goal, forced, grounds }, now, out)
            }
            Some(preflight)
                if !preflight.findings.is_empty() && now.since(preflight.at) < pause(&preflight.findings) =>
            {
                let hold = Hold::Preflight { findings: preflight.findings.clone() };
                self.preflight = Some(preflight);
                // The guards know nothing of it, and the ladder has a limit of its own.
                let first = self.state.incident.as_ref().filter(|incident| incident.plan.is_none());
                match first.and_then(|incident| ladder::held_for_too_long(incident, Some(&hold), now)) {
                    Some(reason) => {
                        self.preflight_asked = None;
                        self.record(Event::Escalated { reason, grounds: None }, now, out)
                    }
                    None => self.hold(hold, Some(goal), now, out),
                }
            }
            Some(_) | None => {
                if self.preflight_asked.as_ref().is_none_or(|asked| !asked.is_same_but_for_time(&plan)) {
                    self.preflight_asked = Some(plan);
                }
                false
            }
        }
    }

    pub(super) fn build_plan(&self, purpose: Purpose, attempt: u32, goal: &Goal, now: Timestamp) -> Option<Plan> {
        let current = &self.in_place()?.revision;
        let last = self.state.incident.as_ref().and_then(|incident| incident.plan.as_ref());
        let from = match purpose {
            Purpose::First | Purpose::OlderKnownGood => current,
            Purpose::Retry | Purpose::Whole => last.map_or(current, |plan| &plan.from),
        };
        let mut view = self.view().ok()?.clone();
        // What the attempt before scaled down comes back as large as it was.
        if let (Some(orchestrated), Some(last)) = (&mut view.orchestrated, last)
            && last.scales_down(&orchestrated.object)
        {
            orchestrated.replicas = orchestrated.replicas.max(last.most_replicas().unwrap_or(0));
        }
        let well = self.brought_back(&goal.revision, now);
        let is_again = |last: &&Plan| last.from == *from && last.to == goal.revision;
        let capacity = last.filter(is_again).and_then(Plan::capacity);
        let served = last.and_then(Plan::served);
        let ground = Ground { from, goal, view: &view, well: &well, capacity, served };
        let mut plan = strategy::build(&self.policy, purpose, attempt, ground, now);
        if let (Some(orchestrated), Habitat::Kubernetes(cluster)) = (&view.orchestrated, &self.policy.habitat) {
            let ledger = &self.state.ledger;
            let moved = self.state.incident.as_ref().map(|incident| incident.moved.as_slice()).unwrap_or_default();
            plan.begin_with(strategy::settings::steps(
                ledger,
                (orchestrated, cluster.keep),
                current,
                &goal.revision,
                moved,
            ));
        }
        self.note_paused(&mut plan);
        Some(plan)
    }

    /// What would put the release back that an orchestrator has in place: where there is no other to go back to, it shows whether
    /// a rollback's writes would be taken, and its instances found room. Nothing where nothing is known to keep it.
    pub(super) fn trial(&self, now: Timestamp) -> Option<Plan> {
        let view = self.view().ok()?;
        let revision = view.orchestrated.as_ref()?.desired.clone();
        let goal = Goal { revision, image: None, known_good_since: None };
        let ground = Ground { from: &goal.revision, goal: &goal, view, well: &[], capacity: None, served: None };
        let plan = strategy::build(&self.policy, Purpose::First, 1, ground, now);
        (!plan.steps.is_empty()).then_some(plan)
    }

    /// The instances that the attempt before brought to this release, and that answer well from there.
    fn brought_back(&self, goal: &RevisionId, now: Timestamp) -> Vec<InstanceId> {
        let Some(incident) = &self.state.incident else { return Vec::new() };
        let Some(last) = incident.plan.as_ref().filter(|plan| plan.to == *goal) else { return Vec::new() };
        let is_well = |id: &&InstanceId| {
            let verdict = self.health.gate(std::slice::from_ref(*id), goal, 1, incident.attempt_since, now);
            verdict == Verdict::Ok
        };
        last.gated_by(incident.steps_done).into_iter().filter(is_well).cloned().collect()
    }

    pub(super) fn rule(&self, incident: &Incident, now: Timestamp, fleet: &FleetView) -> Ruling {
        self.within(incident, now, fleet, guard::rule)
    }

    /// What was asked about last, for the record.
    pub(super) fn grounds(&self, now: Timestamp) -> Option<Box<Grounds>> {
        let incident = self.state.incident.as_ref()?;
        let (fleet, asked) = &self.asked;
        self.within(incident, now, fleet, |situation| Grounds::of(situation, asked.clone())).map(Box::new)
    }

    pub(super) fn within<T>(
        &self,
        incident: &Incident,
        now: Timestamp,
        fleet: &FleetView,
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> T {
        let (view, state) = (self.view(), self.state_as_seen());
        let available = match &view {
            Ok(view) => Ok(view.available.as_slice()),
            Err(reason) => Err(reason.as_str()),
        };
        ask(&Situation {
            limits: Limits::of(&self.policy),
            state: &state,
            incident,
            assessment: &self.assessment,
            available,
            owners: self.owners(),
            fleet,
            attributed_at: self.attributed_at,
            now,
        })
    }

    fn detect(&mut self, (cause, onset): (Cause, Timestamp), now: Timestamp, out: &mut Output) -> bool {
        let goal = self.present_goal(now).ok().filter(|_| cause.aside().is_none());
        let event = Event::Detected {
            cause,
            from: self.state.current.clone(),
            onset,
            goal,
            mode: self.policy.mode,
            strategy: self.policy.strategy,
            assessment: Box::new(self.assessment.clone()),
        };
        self.preflight = None;
        self.record(event, now, out)
    }

    /// Since when a trigger shows a fault that began under an earlier release, if it has not been over since.
    pub(super) fn older_fault(&self, trigger: &TriggerName) -> Option<Timestamp> {
        let older = self.state.older_faults.iter().find(|older| older.trigger == *trigger)?;
        (!self.seen_good.contains(trigger)).then_some(older.onset)
    }

    /// Whether a fault that began then can be put down to the release in place.
    fn is_of_the_release(&self, onset: Timestamp) -> bool {
        let current = self.state.current.as_ref();
        current.is_some_and(|current| (current.since..=current.since + self.policy.probation).contains(&onset))
    }

    /// What one trigger showed is over when that trigger is quiet, whatever another one shows: that is another incident.
    fn has_subsided(&self, incident: &Incident) -> bool {
        match &incident.cause {
            Cause::Trigger { name, aside: Some(release), .. } => {
                let mut asides = self.assessment.asides.iter();
                let goes_on = asides.any(|aside| aside.release == *release && aside.trigger.name == *name);
                !goes_on && self.view().is_ok()
            }
            // What was rejected before it fired is pending no more as well where nobody can tell.
            Cause::Trigger { name, aside: None, .. } => {
                let is_unseen = || incident.times.detected.is_none() && self.why_unknown(name.as_str()).is_some();
                !self.is_breached(name) && !is_unseen()
            }
            Cause::Blind { .. } => self.assessment.blind.is_none() && self.health.has_sight() && self.view().is_ok(),
            Cause::Manual { .. } | Cause::External { .. } => false,
        }
    }

    /// That a trigger is no longer pending may be because nobody can tell.
    fn how_the_suspect_went(&self) -> Closing {
        let cause = self.state.incident.as_ref().map(|incident| incident.cause.name());
        match cause.and_then(|cause| self.why_unknown(cause)) {
            Some(why) => Closing::Unseen { why: why.to_string() },
            None => Closing::Subsided,
        }
    }

    fn why_unknown(&self, trigger: &str) -> Option<&UnknownReason> {
        let status = self.assessment.triggers.iter().find(|status| status.name.as_str() == trigger)?;
        match &status.evidence.verdict {
            Verdict::Unknown(why) => Some(why),
            Verdict::Ok | Verdict::Breach => None,
        }
    }

    fn is_anything_breached(&self) -> bool {
        self.assessment.triggers.iter().any(|trigger| trigger.state != TriggerState::Inactive)
    }

    fn is_breached(&self, trigger: &TriggerName) -> bool {
        let status = self.assessment.triggers.iter().find(|status| status.name == *trigger);
        status.is_some_and(|status| status.state != TriggerState::Inactive)
    }

    /// The gravest firing trigger; of equally grave ones that which can be put down to the release, then the oldest.
    fn gravest_firing(&self) -> Option<(Cause, Timestamp)> {
        let firing = self.assessment.triggers.iter().filter_map(|trigger| match trigger.state {
            TriggerState::Firing { since, .. } => {
                Some((trigger, self.older_fault(&trigger.name).map_or(since, |older| older.min(since))))
            }
            TriggerState::Inactive | TriggerState::Pending { .. } => None,
        });
        let gravest = firing.max_by_key(|(trigger, onset)| {
            (trigger.severity, self.is_of_the_release(*onset), std::cmp::Reverse(*onset))
        });
        gravest.map(|(trigger, onset)| (cause_of(trigger, None), onset))
    }

    /// What fires: of the release in question, unless it is only for people to know, or of one beside it.
    fn gravest_fault(&self) -> Option<(Cause, Timestamp)> {
        let own = self.gravest_firing();
        match &own {
            Some((cause, _)) if cause.severity() == Severity::Critical => own,
            Some(_) | None => self.gravest_aside().or(own),
        }
    }

    /// What is another matter than what the open incident is about, and is judged as such.
    fn news(&self, incident: &Incident, fleet: &FleetView) -> Option<(Cause, Timestamp)> {
        let is_aside = incident.cause.aside().is_some();
        let is_of_another = || self.state.current.as_ref().is_some_and(|current| !incident.knows(&current.revision));
        if incident.phase == Phase::Escalated && !is_aside && is_of_another() {
            return self.gravest_firing();
        }
        // What was gone back from in vain is a human's.
        if incident.plan.is_some() {
            return None;
        }
        // People are told of both, one after the other.
        let blind = self.assessment.blind.as_ref().filter(|_| is_aside && !incident.was_blind && !fleet.is_late);
        let blind = blind.map(|blind| (Cause::Blind { reason: blind.reason.clone() }, blind.since));
        self.gravest_fault().filter(|fault| self.is_graver(fault, incident)).or(blind)
    }

    /// Whether a fault is graver than what the incident is about, or as grave and the release's own where that is an older
    /// fault: the older one must not hide it. What was reported stays what it is until a human has it.
    fn is_graver(&self, (cause, onset): &(Cause, Timestamp), incident: &Incident) -> bool {
        let is_critical = cause.aside().is_none() && cause.severity() == Severity::Critical;
        let is_ours = |onset: Option<Timestamp>| onset.is_some_and(|onset| self.is_of_the_release(onset));
        match &incident.cause {
            Cause::Blind { .. } => true,
            Cause::Trigger { aside: Some(_), .. } => is_critical,
            Cause::Trigger { severity, aside: None, .. } => {
                let theirs = (*severity, is_ours(incident.times.onset));
                (cause.severity(), cause.aside().is_none() && is_ours(Some(*onset))) > theirs
            }
            Cause::External { .. } => is_critical && incident.phase == Phase::Escalated,
            Cause::Manual { .. } => false,
        }
    }

    /// What fires on a release that serves beside the one in question: of several that which began first.
    fn gravest_aside(&self) -> Option<(Cause, Timestamp)> {
        self.firing_asides().min_by_key(|(_, since)| *since)
    }

    fn firing_asides(&self) -> impl Iterator<Item = (Cause, Timestamp)> {
        self.assessment.asides.iter().filter_map(|aside| match aside.trigger.state {
            TriggerState::Firing { since, .. } => Some((cause_of(&aside.trigger, Some(&aside.release)), since)),
            TriggerState::Inactive | TriggerState::Pending { .. } => None,
        })
    }

    /// What fires on such a release, and people do not know of.
    fn untold_aside(&self, incident: &Incident) -> Option<Cause> {
        let is_news = |cause: &Cause| {
            let it = beside(cause);
            it != beside(&incident.cause) && it.is_some_and(|it| !incident.found_beside.contains(&it))
        };
        self.firing_asides().map(|(cause, _)| cause).find(is_news)
    }

    /// The gravest trigger that has been pending for at least one interval: a single odd look is not worth a message.
    fn suspect(&self) -> Option<(Cause, Timestamp)> {
        let pending = self.assessment.triggers.iter().filter_map(|trigger| match trigger.state {
            TriggerState::Pending { since, held } if held >= self.policy.interval => Some((trigger, since)),
            TriggerState::Pending { .. } | TriggerState::Inactive | TriggerState::Firing { .. } => None,
        });
        let gravest = pending.max_by_key(|(trigger, since)| (trigger.severity, std::cmp::Reverse(*since)));
        gravest.map(|(trigger, since)| (cause_of(trigger, None), since))
    }

    fn held_by_suspect(&self) -> Option<Span> {
        let incident = self.state.incident.as_ref()?;
        let trigger = self.assessment.triggers.iter().find(|trigger| trigger.name.as_str() == incident.cause.name())?;
        match trigger.state {
            TriggerState::Pending { held, .. } => Some(held),
            TriggerState::Inactive | TriggerState::Firing { .. } => None,
        }
    }
}

pub(super) fn cause_of(trigger: &TriggerStatus, aside: Option<&RevisionId>) -> Cause {
    Cause::Trigger {
        name: trigger.name.clone(),
        severity: trigger.severity,
        hold_for: trigger.hold_for,
        evidence: trigger.evidence.clone(),
        combined: trigger.combined.clone(),
        aside: aside.cloned(),
    }
}
