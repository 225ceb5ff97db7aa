//! One workload's machine: observations, answers and requests go in; records, messages and jobs come out.
//!
//! Every pass derives what to do from the whole state, which is a fold of the journal's records. A restart folds the
//! same records and goes on by the same code: there is no other path for recovery.

mod decide;
mod execute;
mod found;
mod jobs;
mod leaving;
mod operator;
mod owners;
mod proof;
mod recorder;
mod releases;
mod room;
mod settings;
mod view;
mod watching;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::health::Health;
use super::health::memory::Memory;
use super::health::verdict::{Assessment, TriggerState};
use super::id::{IncidentId, InstanceId, RevisionId, SignalName, TriggerName, WorkloadId};
use super::incident::alert::{Alert, Phase};
use super::incident::grounds::Question;
use super::incident::ledger::Standing;
use super::incident::narrate;
use super::incident::record::{Cause, Closing, Event, Record};
use super::incident::state::{Applied, Illegal, Incident, Progress, WorkloadState};
use super::observation::{Fault, Observation, ReleaseView, Seen};
use super::policy::{Severity, WorkloadPolicy};
use super::response::guard::{FleetView, Ruling};
use super::response::hold::Hold;
use super::response::plan::Plan;
use super::time::{Span, Timestamp};
use super::units::Finite;

use jobs::{InFlight, Preflight};
use owners::PutBacks;
use recorder::Asked;
use releases::Unrecorded;
use settings::SettingsSeen;

pub use jobs::{Answer, Job, JobResult, Work};
pub use leaving::owes;
pub use operator::{Accepted, Refusal, Request, RequestKind};
pub use view::{Explanation, IncidentView, Preview, ReleaseStanding, Standby, Standstill, StepStanding, WorkloadView};

/// Transitions that one input may cause. The longest chain is a dozen; more is a loop.
const MAX_TRANSITIONS: usize = 64;

/// Looks and judgements are this many times denser while something is going on.
pub const FAST_FACTOR: u64 = 5;

/// Shortest time between two judgements.
const SHORTEST_PACE: Span = Span::from_millis(100);

/// What goes in.
#[derive(Debug)]
pub enum Input {
    /// Something was seen.
    Observed(Observation),
    /// Time has passed.
    Tick,
    /// A job is over.
    Done(Answer),
    /// A job is over, and the daemon is about to end: its outcome is noted, and nothing follows from it.
    Parked(Answer),
    /// An operator asks for something.
    Asked(Request),
    /// The job that was asked for last was never begun, and why: what called for it may be over.
    NotBegun(String),
    /// Nothing could be done since then, and why: that time is none of what was under way.
    StoodStill(Timestamp, Hold),
}

/// What comes out of one input.
#[derive(Default, Debug)]
pub struct Output {
    /// To be committed before anything else is done, together with `alerts`.
    pub records: Vec<Record>,
    /// Messages for the workload's receivers, in order.
    pub alerts: Vec<Alert>,
    /// To be started once the records are durable.
    pub jobs: Vec<Job>,
    /// Records that the legality table refused: a defect, to be logged loudly. Nothing was done.
    pub refused: Vec<Illegal>,
}

/// One workload's machine.
#[derive(Debug)]
pub struct Controller {
    policy: Arc<WorkloadPolicy>,
    state: WorkloadState,
    health: Health,
    releases: Option<(Timestamp, Result<ReleaseView, Fault>)>,
    /// Since when the releases can't be looked at; none while they can.
    unread_since: Option<Timestamp>,
    /// What each instance was at in the last look that was followed.
    followed: Option<Vec<(InstanceId, RevisionId)>>,
    /// The release in place, where that could not be recorded yet.
    unrecorded: Option<Unrecorded>,
    assessment: Assessment,
    /// When it judged first.
    began: Option<Timestamp>,
    ruling: Option<Ruling>,
    /// When the open incident's fault was last seen not to be the release's.
    attributed_at: Option<Timestamp>,
    /// The brakes over all workloads as the guards saw them last, and what was asked.
    asked: (FleetView, Question),
    tickets: u64,
    in_flight: Option<InFlight>,
    preflight: Option<Preflight>,
    preflight_asked: Option<Plan>,
    /// The recording that was asked for in this incident.
    recording: Option<Asked>,
    settings: SettingsSeen,
    healthy_since: Option<Timestamp>,
    /// The release that serves beside a canary, and since when it has been well.
    well_beside: Option<(RevisionId, Timestamp)>,
    stable_since: Option<Timestamp>,
    /// Triggers that were seen good on the present release: what they show from then on is not an older fault.
    seen_good: BTreeSet<TriggerName>,
    put_backs: PutBacks,
    /// It is not in the policy any more.
    is_leaving: bool,
}

impl Controller {
    /// Picks up where the journal's records leave off.
    #[must_use]
    pub fn new(policy: Arc<WorkloadPolicy>, state: WorkloadState) -> Self {
        let mut health = Health::new(Arc::clone(&policy));
        if let Some(incident) = &state.incident {
            restore_trigger(&mut health, incident);
        }
        let assessment = Assessment::nothing(state.last_at);
        Self {
            policy,
            state,
            health,
            releases: None,
            unread_since: None,
            followed: None,
            unrecorded: None,
            assessment,
            began: None,
            ruling: None,
            attributed_at: None,
            asked: (FleetView::default(), Question::Guards),
            tickets: 0,
            in_flight: None,
            preflight: None,
            preflight_asked: None,
            recording: None,
            settings: SettingsSeen::default(),
            healthy_since: None,
            well_beside: None,
            stable_since: None,
            seen_good: BTreeSet::new(),
            put_backs: PutBacks::default(),
            is_leaving: false,
        }
    }

    /// Puts another policy in force. Windows start anew; the journal's state stays, and the past of the signals that are
    /// read as before.
    pub fn adopt(&mut self, policy: Arc<WorkloadPolicy>) {
        self.stay();
        if *self.policy == *policy {
            return;
        }
        self.health.adopt(Arc::clone(&policy));
        if let Some(incident) = &self.state.incident {
            restore_trigger(&mut self.health, incident);
        }
        self.policy = policy;
        self.began = None;
        self.healthy_since = None;
        self.well_beside = None;
        self.stable_since = None;
    }

    /// Goes on from what another replica recorded, with all that was seen here meanwhile. What was asked of the edges is
    /// asked anew.
    pub fn continue_from(&mut self, state: WorkloadState) {
        let revision = |state: &WorkloadState| state.current.as_ref().map(|current| current.revision.clone());
        if revision(&self.state) != revision(&state) {
            self.healthy_since = None;
            self.seen_good.clear();
        }
        self.state = state;
        self.unrecorded = None;
        self.ruling = None;
        self.attributed_at = None;
        self.in_flight = None;
        self.preflight = None;
        self.preflight_asked = None;
        self.recording = None;
        self.settings = SettingsSeen::default();
        self.stable_since = None;
        if let Some(incident) = &self.state.incident {
            restore_trigger(&mut self.health, incident);
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Arc<WorkloadPolicy> {
        &self.policy
    }

    /// What the journal says.
    #[must_use]
    pub const fn state(&self) -> &WorkloadState {
        &self.state
    }

    /// The same of one that is not watched any more.
    #[must_use]
    pub fn into_state(self) -> WorkloadState {
        self.state
    }

    /// Takes the rollback of the open incident for begun, as [`WorkloadState::suppose_begun`] has it.
    pub fn suppose_begun(&mut self, at: Timestamp) -> bool {
        self.state.suppose_begun(at)
    }

    /// The latest judgement.
    #[must_use]
    pub const fn assessment(&self) -> &Assessment {
        &self.assessment
    }

    /// A signal's recent values, for a plot.
    #[must_use]
    pub fn history(&self, signal: &SignalName) -> Vec<(Timestamp, Option<Finite>)> {
        self.health.history(signal)
    }

    /// What is worth keeping of the windows for the next start.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.health.memory()
    }

    /// Takes up what was kept of the windows before the start.
    pub fn recall(&mut self, memory: Memory) {
        self.health.recall(memory);
    }

    /// Since when some trigger is in breach that says of the workload that it is bad.
    #[must_use]
    pub fn breached_since(&self) -> Option<Timestamp> {
        let counted = self.assessment.triggers.iter().filter(|trigger| self.counts(trigger.severity));
        let since = counted.filter_map(|trigger| match trigger.state {
            TriggerState::Inactive => None,
            TriggerState::Pending { since, .. } | TriggerState::Firing { since, .. } => Some(since),
        });
        since.min()
    }

    /// Whether a cause says of the workload that it is bad.
    #[must_use]
    pub fn is_witness(&self, cause: &Cause) -> bool {
        matches!(cause, Cause::Trigger { severity, aside: None, .. } if self.counts(*severity))
    }

    /// What is only for people to know says nothing, unless nothing else is judged.
    fn counts(&self, severity: Severity) -> bool {
        severity > Severity::Alert || self.policy.triggers.iter().all(|trigger| trigger.severity == Severity::Alert)
    }

    /// Whether a rollback of this workload is under way.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        self.state.incident.as_ref().is_some_and(|incident| {
            matches!(incident.phase, Phase::Started | Phase::Verifying | Phase::Failed)
                || incident.progress != Progress::Idle
                || self.is_apart()
        })
    }

    /// Whether a rollback was begun here and is not over: another attempt may follow, though nothing is done now.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        let incident = self.state.incident.as_ref();
        let is_between = incident.is_some_and(|incident| {
            matches!(incident.phase, Phase::Held | Phase::AwaitingApproval) && incident.plan.is_some()
        });
        self.is_acting() || is_between
    }

    /// Whether looks and judgements should be denser than usual.
    #[must_use]
    pub fn is_tense(&self) -> bool {
        self.is_acting() || self.assessment.triggers.iter().any(|trigger| trigger.state != TriggerState::Inactive)
    }

    /// When [`Input::Tick`] is due at the latest.
    #[must_use]
    pub fn next_tick(&self) -> Timestamp {
        let interval = self.policy.interval;
        let pace = if self.is_tense() { self.fast_pace() } else { interval };
        self.assessment.at + pace
    }

    fn fast_pace(&self) -> Span {
        Span::from_millis(self.policy.interval.as_millis() / FAST_FACTOR).max(SHORTEST_PACE)
    }

    /// Takes one input and gives everything that follows from it. Never later than `now` of an earlier call.
    pub fn handle(&mut self, input: Input, now: Timestamp, fleet: &FleetView, out: &mut Output) -> Option<Reply> {
        if self.is_leaving {
            return self.handle_leaving(input, now, fleet, out);
        }
        let mut reply = None;
        let judge = match input {
            Input::Observed(observation) => {
                let about_releases = matches!(observation.seen, Seen::Releases(_));
                self.take_in(&observation);
                about_releases || now.since(self.assessment.at) >= self.fast_pace()
            }
            Input::Tick => true,
            Input::Done(answer) => {
                self.take_answer(answer, now, out);
                true
            }
            Input::Parked(answer) => {
                self.take_answer(answer, now, out);
                return None;
            }
            Input::NotBegun(why) => {
                self.note_not_begun(why, now, out);
                true
            }
            Input::StoodStill(since, hold) => {
                self.note_stood_still(since, hold, out);
                true
            }
            Input::Asked(request) => {
                reply = Some(self.ask(request, now, fleet, out));
                true
            }
        };
        if judge {
            self.assess(now);
            self.advance(now, fleet, out);
            self.unrecorded = None;
        }
        self.ask_edges(now, out);
        if out.refused.is_empty() {
            self.ask_recording(now, out);
            self.ask_to_keep(now, out);
        }
        reply
    }

    fn take_in(&mut self, observation: &Observation) {
        if let Seen::Releases(view) = &observation.seen {
            self.releases = Some((observation.at, view.clone()));
            self.see_settings(observation.at);
        }
        self.health.observe(observation);
    }

    /// Does whatever the state asks for, until it asks for nothing more.
    fn advance(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) {
        for _ in 0..MAX_TRANSITIONS {
            let moved =
                self.follow_releases(now, out) || self.note_known_good(now, out) || self.pursue(now, fleet, out);
            if !moved || !out.refused.is_empty() {
                return;
            }
        }
    }

    fn pursue(&mut self, now: Timestamp, fleet: &FleetView, out: &mut Output) -> bool {
        let Some(incident) = &self.state.incident else {
            self.recording = None;
            self.attributed_at = self.attributed_at.filter(|_| self.state.others_fault.is_some());
            return self.open(now, fleet, out);
        };
        match incident.phase {
            Phase::Suspected => self.watch_suspect(now, out),
            Phase::Held if incident.progress != Progress::Idle => self.drive(now, out),
            // After a start the first look at the releases is waited for: that it has not come yet is no reason to hold.
            Phase::Detected | Phase::Held | Phase::AwaitingApproval | Phase::Failed if self.releases.is_none() => false,
            Phase::Detected | Phase::Held | Phase::AwaitingApproval => self.consider(now, fleet, out),
            Phase::Started => self.drive(now, out),
            Phase::Verifying => self.prove(now, out),
            Phase::Failed => self.climb(now, fleet, out),
            Phase::Escalated => self.watch_escalated(now, fleet, out),
            Phase::Restored | Phase::Closed => false,
        }
    }

    /// Writes a record about the workload itself. Whether it was written.
    fn note(&mut self, event: Event, now: Timestamp, out: &mut Output) -> bool {
        self.write(None, event, now, out)
    }

    /// Writes a record about the open incident. Whether it was written.
    fn record(&mut self, event: Event, now: Timestamp, out: &mut Output) -> bool {
        let id = match &self.state.incident {
            Some(incident) => incident.id.clone(),
            None => self.new_incident_id(now),
        };
        self.write(Some(id), event, now, out)
    }

    fn write(&mut self, incident: Option<IncidentId>, event: Event, now: Timestamp, out: &mut Output) -> bool {
        let record =
            Record { workload: self.policy.id.clone(), sequence: self.state.sequence + 1, incident, at: now, event };
        match self.state.apply(&record) {
            Ok(applied) => {
                if let Applied::Transition(incident) = applied {
                    let alert = narrate::alert(&self.policy.id, &incident, &record.event);
                    // What is decided, and told, is so under the mode in force.
                    out.alerts.push(Alert { mode: self.policy.mode, ..alert });
                }
                out.records.push(record);
                true
            }
            Err(illegal) => {
                out.refused.push(illegal);
                false
            }
        }
    }

    /// `<workload>-<date>-<time>-<sequence>`: readable, and unique by the sequence of its first record.
    fn new_incident_id(&self, now: Timestamp) -> IncidentId {
        let stamp: String =
            now.to_string().chars().take(19).filter(|c| *c != '-' && *c != ':').collect::<String>().replace('T', "-");
        IncidentId::new(format!("{}-{stamp}-{}", self.policy.id, self.state.sequence + 1))
    }

    fn note_known_good(&mut self, now: Timestamp, out: &mut Output) -> bool {
        let is_doubted = self.state.incident.as_ref().is_some_and(doubts_the_release);
        let current = self.state.current.as_ref().zip(self.healthy_since).filter(|_| !is_doubted);
        let current = current.filter(|(current, since)| *since >= current.since);
        let current = current.map(|(current, since)| (current.revision.clone(), since));
        let is_due = |(revision, since): &(RevisionId, Timestamp)| {
            // Well for long enough since it was gone back to in vain, it is known anew.
            let is_known = |standing: &Standing| {
                let failed = standing.failed_as_goal;
                standing.known_good_since.is_some() && failed.is_none_or(|failed| *since < failed)
            };
            let known = self.state.ledger.get(revision).is_some_and(is_known);
            !known && now.since(*since) >= self.policy.known_good_after
        };
        // What is wrong with a canary says nothing of what serves beside it.
        let Some((revision, since)) = current.into_iter().chain(self.well_beside.clone()).find(is_due) else {
            return false;
        };
        self.note(Event::KnownGood { revision, since }, now, out)
    }
}

/// Whether an incident leaves open that the release is not good. A fault beside it is none of its own, and what is only for
/// people to know says nothing, unless nothing else is judged.
fn doubts_the_release(incident: &Incident) -> bool {
    match &incident.cause {
        Cause::Trigger { aside: Some(_), .. } | Cause::Trigger { severity: Severity::Alert, .. } => false,
        Cause::Trigger { .. } | Cause::Blind { .. } | Cause::Manual { .. } | Cause::External { .. } => true,
    }
}

/// Closes what is open of a workload that is not in the policy any more and so has no controller.
#[must_use]
pub fn forgotten(workload: &WorkloadId, mut state: WorkloadState, now: Timestamp) -> Option<(Record, Alert)> {
    let record = Record {
        workload: workload.clone(),
        sequence: state.sequence + 1,
        incident: Some(state.incident.as_ref()?.id.clone()),
        at: now,
        event: Event::Closed { how: Closing::Forgotten { left: BTreeMap::new() } },
    };
    match state.apply(&record) {
        Ok(Applied::Transition(incident)) => {
            let alert = narrate::alert(workload, &incident, &record.event);
            Some((record, alert))
        }
        Ok(Applied::Silent) | Err(_) => None,
    }
}

/// What an operator's request came to.
pub type Reply = Result<Accepted, Refusal>;

fn restore_trigger(health: &mut Health, incident: &Incident) {
    let Cause::Trigger { name, aside, .. } = &incident.cause else { return };
    let Some(onset) = incident.times.onset else { return };
    let mut restore = |state, at| match aside {
        Some(release) => health.restore_aside(release, name, state, at),
        None => health.restore(name, state, at),
    };
    match (incident.phase, incident.pending, incident.times.detected) {
        (Phase::Suspected, noted, _) => {
            // How long it had been pending by then is noted later.
            let (held, noted) = noted.unwrap_or((Span::ZERO, incident.phase_since));
            restore(TriggerState::Pending { since: onset, held }, noted);
        }
        (Phase::Detected | Phase::Held | Phase::AwaitingApproval, _, Some(detected)) => {
            restore(TriggerState::Firing { since: onset, at: detected }, detected);
        }
        (Phase::Detected | Phase::Held | Phase::AwaitingApproval, _, None) => {}
        (
            Phase::Started | Phase::Verifying | Phase::Restored | Phase::Failed | Phase::Escalated | Phase::Closed,
            _,
            _,
        ) => {}
    }
}
