//! Recorded looks into the daemon's own machine, and its decisions out of it.
//!
//! Each workload's [`Controller`] stands in a fleet as in the daemon, sees what
//! its edges would have seen, and is asked for its judgement when the daemon would ask. Its mode is `observe`: that is the
//! last of the guards but one, so that where it alone holds nothing else stands in the way of a rollback. As nothing
//! is done, the recording goes on as it was and later firings are seen as well; but a rollback that would have been begun
//! counts as begun for the guards of what comes after it, and as over at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::bind::Options;
use super::exporters::QUERY;
use super::lane::Lane;
use super::moments::Moments;
use super::outcome::{Decision, Kind, Near, Outcome};
use super::recording::{Point, Recording};
use crate::domain::controller::{Controller, Explanation, FAST_FACTOR, Input, Output};
use crate::domain::fleet::Fleet;
use crate::domain::health::verdict::{TriggerState, TriggerStatus, Verdict};
use crate::domain::id::{RevisionId, TriggerName, WorkloadId};
use crate::domain::incident::narrate;
use crate::domain::incident::record::{Event, Record};
use crate::domain::incident::state::{Incident, WorkloadState};
use crate::domain::observation::{Observation, Seen};
use crate::domain::policy::{Condition, Formula, Mode, Signal, WorkloadPolicy};
use crate::domain::response::hold::Hold;
use crate::domain::time::{Span, Timestamp};

/// Longest stretch without any point that is judged step by step; what lies beyond is passed over.
const LONGEST_GAP: Span = Span::from_secs(3600);

/// A workload to be replayed, and its policy.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the outcome.
    pub id: WorkloadId,
    /// What is judged.
    pub policy: Arc<WorkloadPolicy>,
}

/// Watches a replay step by step.
pub trait Watcher {
    /// A judgement was made.
    fn judged(&mut self, controller: &Controller, now: Timestamp);
}

impl Watcher for () {
    fn judged(&mut self, _: &Controller, _: Timestamp) {}
}

/// Replays a recording.
///
/// # Errors
/// Points that were put on disk could not be read back.
pub fn replay(
    recording: &Recording,
    subjects: &[Subject],
    options: &Options,
    watcher: &mut dyn Watcher,
) -> io::Result<Outcome> {
    let mut stage = Stage::new(recording, subjects, options);
    stage.play(recording, i64::MAX, watcher)?;
    Ok(stage.finish(recording))
}

/// Replays a recording up to a moment, that included, and tells why each workload is as it is then, as the daemon would have
/// told. Of a workload of which nothing was seen by then nothing is told.
///
/// # Errors
/// Points that were put on disk could not be read back.
pub fn explain(
    recording: &Recording,
    subjects: &[Subject],
    options: &Options,
    at: Timestamp,
) -> io::Result<Vec<Explanation>> {
    let mut stage = Stage::new(recording, subjects, options);
    stage.play(recording, at.as_millis(), &mut ())?;
    stage.pass_time(at + Span::from_millis(1), &mut ());
    Ok(stage.explain(at))
}

/// What is known of a workload besides what its controller knows.
struct Part {
    lane: Lane,
    mode: Mode,
    started: bool,
    pace: Span,
    /// The incident's cause as it was decided last.
    ruled: Option<Decision>,
    told: BTreeSet<TriggerName>,
    near: Vec<Near>,
}

struct Stage<'o> {
    options: &'o Options,
    fleet: Fleet,
    parts: BTreeMap<WorkloadId, Part>,
    /// The shortest time between two looks.
    cadence: Span,
    seen: Vec<Observation>,
    last: Option<i64>,
    outcome: Outcome,
}

impl<'o> Stage<'o> {
    fn new(recording: &Recording, subjects: &[Subject], options: &'o Options) -> Self {
        let (mut parts, mut cadence) = (BTreeMap::new(), LONGEST_GAP);
        let (range, notes) = (recording.range(), recording.notes.clone());
        let mut outcome = Outcome { range, series: recording.len(), notes, ..Outcome::default() };
        for Subject { id, policy } in subjects {
            let mode = policy.mode;
            let policy = Arc::new(WorkloadPolicy { id: id.clone(), mode: Mode::Observe, ..(**policy).clone() });
            let lane = Lane::new(id.clone(), Arc::clone(&policy), recording, options);
            outcome.notes.extend(notes_of(&lane, &policy));
            outcome.doubts.extend(lane.doubts().map(|doubt| format!("{id}: {doubt}")));
            outcome.unseen.extend(lane.is_empty().then(|| id.clone()));
            let near = lane.policy.triggers.iter().map(|trigger| nothing_near(id, &lane.policy, trigger)).collect();
            cadence = cadence.min(policy.interval).min(lane.cadence().unwrap_or(cadence));
            let pace = Span::from_millis(lane.policy.interval.as_millis() / FAST_FACTOR);
            let part = Part { lane, mode, started: false, pace, ruled: None, told: BTreeSet::new(), near };
            parts.insert(id.clone(), part);
        }
        Self { options, fleet: Fleet::default(), parts, cadence, seen: Vec::new(), last: None, outcome }
    }

    /// Everything that was recorded by `until`, moment by moment.
    fn play(&mut self, recording: &Recording, until: i64, watcher: &mut dyn Watcher) -> io::Result<()> {
        let mut moments = Moments::new(recording, self.cadence);
        while let Some((at, points)) = moments.next()?.filter(|(at, _)| *at <= until) {
            self.moment(at, &points, watcher);
        }
        Ok(())
    }

    /// Everything that was recorded at one moment.
    fn moment(&mut self, at: i64, points: &[Point], watcher: &mut dyn Watcher) {
        let now = Timestamp::from_millis(at);
        self.pass_time(now, watcher);
        self.last = Some(at);
        let ids: Vec<WorkloadId> = self.parts.keys().cloned().collect();
        for id in ids {
            let Some(part) = self.parts.get_mut(&id) else { continue };
            part.lane.observe(at, points, &mut self.seen);
            self.take_in(&id, now, watcher);
        }
    }

    /// Judges where the daemon would have, up to but without `until`.
    fn pass_time(&mut self, until: Timestamp, watcher: &mut dyn Watcher) {
        let Some(last) = self.last.map(Timestamp::from_millis) else { return };
        let end = until.min(last + LONGEST_GAP);
        loop {
            let ticks = self.fleet.iter().map(|(id, controller)| (controller.next_tick(), id));
            let Some((tick, id)) = ticks.min_by_key(|(tick, _)| *tick) else { return };
            if tick >= end {
                return;
            }
            let id = id.clone();
            self.judge(&id, tick, watcher);
        }
    }

    fn take_in(&mut self, id: &WorkloadId, now: Timestamp, watcher: &mut dyn Watcher) {
        let mut seen = std::mem::take(&mut self.seen);
        if seen.is_empty() {
            self.seen = seen;
            return;
        }
        self.start(id, &seen, now);
        let about_releases = seen.iter().any(|observation| matches!(observation.seen, Seen::Releases(_)));
        for observation in seen.drain(..) {
            self.fleet.observe_only(&observation);
        }
        self.seen = seen;
        let Some(controller) = self.fleet.get(id) else { return };
        let pace = self.parts.get(id).map_or(Span::ZERO, |part| part.pace);
        if about_releases || now.since(controller.assessment().at) >= pace {
            self.judge(id, now, watcher);
        }
    }

    /// Puts a workload under watch when it is first seen, with the release that it begins with.
    fn start(&mut self, id: &WorkloadId, seen: &[Observation], now: Timestamp) {
        let Some(part) = self.parts.get_mut(id).filter(|part| !part.started) else { return };
        if !seen.iter().any(|observation| matches!(observation.seen, Seen::Releases(_))) {
            return;
        }
        part.started = true;
        let mut state = WorkloadState::default();
        if let Some(first) = part.lane.first_release() {
            let [observed, good] = known_good(id, first, now);
            // The first two records of a workload can follow nothing.
            let _ = state.apply(&observed);
            if self.options.first_is_good {
                let _ = state.apply(&good);
                self.outcome.notes.push(format!(
                    "{id}: {first}, with which the recording begins, counts as known good (--known-good observed asks \
                     for proof)"
                ));
            }
        }
        self.fleet.add(Arc::clone(&part.lane.policy), state);
    }

    fn judge(&mut self, id: &WorkloadId, now: Timestamp, watcher: &mut dyn Watcher) {
        let mut out = Output::default();
        self.fleet.handle(id, Input::Tick, now, &mut out);
        self.outcome.judgements += 1;
        for record in &out.records {
            self.follow(id, record);
        }
        let (Some(controller), Some(part)) = (self.fleet.get(id), self.parts.get_mut(id)) else { return };
        watcher.judged(controller, now);
        part.note(controller, now, &mut self.outcome.decisions);
    }

    fn follow(&mut self, id: &WorkloadId, record: &Record) {
        match &record.event {
            Event::Held { hold, .. } => self.decide(id, hold, record.at),
            Event::Closed { .. } => {
                if let Some(part) = self.parts.get_mut(id) {
                    part.ruled = None;
                }
            }
            _ => {}
        }
    }

    /// The incident is held: by `observe` alone, which is a rollback, or by something else.
    fn decide(&mut self, id: &WorkloadId, hold: &Hold, at: Timestamp) {
        let explained = self.fleet.explain(id, at);
        let (Some(part), Some(controller)) = (self.parts.get_mut(id), self.fleet.get(id)) else { return };
        let Some(incident) = &controller.state().incident else { return };
        let others = explained.into_iter().flat_map(|explained| explained.guards);
        let other = others.filter_map(|guard| guard.hold).find(|hold| !matches!(hold, Hold::ObserveMode));
        let hold = match (hold, part.mode) {
            (Hold::ObserveMode, Mode::Observe) => Some(Hold::ObserveMode),
            (Hold::ObserveMode, Mode::Approve) => {
                other.or_else(|| Some(Hold::NeedsApproval { because: "the mode is approve".to_owned() }))
            }
            (Hold::ObserveMode, Mode::Enforce) => other,
            (hold, _) => Some(hold.clone()),
        };
        let decision = decision(id, incident, hold.as_ref(), at);
        // Once it is decided to take the release back, the daemon asks no more whether to.
        let is_decided = |before: &Decision| before.decision == Kind::Rollback && before.trigger == decision.trigger;
        if part.ruled.as_ref().is_some_and(is_decided) {
            return;
        }
        part.told.insert(TriggerName::new(&decision.trigger));
        part.ruled = Some(decision.clone());
        if decision.decision == Kind::Rollback {
            self.fleet.suppose_begun(id, at);
        }
        self.outcome.decisions.push(decision);
    }

    /// Why everything is as it is, in the modes of the policies.
    fn explain(mut self, at: Timestamp) -> Vec<Explanation> {
        let mut explained = Vec::new();
        for (id, part) in &self.parts {
            let held = self.fleet.get(id).and_then(|controller| controller.state().incident.as_ref()?.hold.clone());
            self.fleet.adopt(Arc::new(WorkloadPolicy { mode: part.mode, ..(*part.lane.policy).clone() }));
            let Some(mut explanation) = self.fleet.explain(id, at) else { continue };
            // How long a rollback would have been under way nobody knows.
            explanation.guards.retain(|guard| guard.name != "in-flight");
            let ruled = part.ruled.as_ref().filter(|_| held == Some(Hold::ObserveMode) && part.mode != Mode::Observe);
            if let Some(Decision { decision, fired_at, reason, .. }) = ruled {
                explanation.decision = format!("{} at {fired_at}: {reason}", decision.as_str());
            }
            explained.push(explanation);
        }
        explained
    }

    fn finish(mut self, recording: &Recording) -> Outcome {
        for (id, part) in self.parts {
            if !part.started && !part.lane.is_empty() {
                self.outcome.notes.push(format!("{id}: nothing of it is seen, and nothing was judged"));
                self.outcome.unseen.push(id.clone());
            }
            let releases = part.lane.releases().iter().map(|(at, revision)| (id.clone(), *at, revision.clone()));
            self.outcome.releases.extend(releases);
            self.outcome.near.extend(part.near);
        }
        self.outcome.range = recording.range();
        self.outcome.decisions.sort_by_key(|decision| decision.fired_at);
        self.outcome
    }
}

impl Part {
    /// Notes how near each trigger came, and those that fire beside the one that the incident is about.
    fn note(&mut self, controller: &Controller, now: Timestamp, decisions: &mut Vec<Decision>) {
        for (near, trigger) in self.near.iter_mut().zip(&controller.assessment().triggers) {
            note_near(near, trigger, now);
            let TriggerState::Firing { since, .. } = trigger.state else {
                self.told.remove(&trigger.name);
                continue;
            };
            let Some(ruled) = &self.ruled else { continue };
            // What fires again after it ebbed is not beside itself.
            if self.told.contains(&trigger.name) || ruled.trigger == trigger.name.as_str() {
                continue;
            }
            self.told.insert(trigger.name.clone());
            let reason = format!("{}; \"{}\" fired first: {}", describe(trigger), ruled.trigger, ruled.reason);
            decisions.push(Decision {
                trigger: trigger.name.to_string(),
                severity: trigger.severity,
                onset: since,
                fired_at: now,
                reason,
                ..ruled.clone()
            });
        }
    }
}

fn describe(trigger: &TriggerStatus) -> String {
    narrate::describe(&crate::domain::incident::record::Cause::Trigger {
        name: trigger.name.clone(),
        severity: trigger.severity,
        hold_for: trigger.hold_for,
        evidence: trigger.evidence.clone(),
        combined: trigger.combined.clone(),
        aside: None,
    })
}

fn decision(id: &WorkloadId, incident: &Incident, hold: Option<&Hold>, at: Timestamp) -> Decision {
    let cause = narrate::describe(&incident.cause);
    let to = incident.goal.as_ref().map(|goal| goal.revision.clone());
    let (kind, reason) = match hold {
        None => (Kind::Rollback, to.as_ref().map_or_else(|| cause.clone(), |to| format!("{cause}: back to {to}"))),
        Some(hold) => (kind_of(hold), format!("{cause}; {}: {hold}", hold.as_str())),
    };
    Decision {
        workload: id.clone(),
        trigger: incident.cause.name().to_owned(),
        severity: incident.cause.severity(),
        onset: incident.times.onset.unwrap_or(at),
        fired_at: at,
        decision: kind,
        reason,
        hold: hold.map(|hold| hold.as_str().to_owned()),
        from: incident.from.as_ref().map(|from| from.revision.clone()),
        to: to.filter(|_| kind == Kind::Rollback),
    }
}

/// Whether a hold leaves something to take back, or there was never anything.
fn kind_of(hold: &Hold) -> Kind {
    match hold.as_str() {
        "alert-only" | "past-probation" | "no-rollout" | "blind" => Kind::Alert,
        _ => Kind::Hold,
    }
}

/// The records by which a release is in place and known good.
pub(super) fn known_good(id: &WorkloadId, revision: &RevisionId, at: Timestamp) -> [Record; 2] {
    let observed = Event::ReleaseObserved {
        revision: revision.clone(),
        image: None,
        previous: None,
        by_rollback: false,
        older_faults: Vec::new(),
        instances: [].into(),
    };
    let good = Event::KnownGood { revision: revision.clone(), since: at };
    let record = |sequence, event| Record { workload: id.clone(), sequence, incident: None, at, event };
    [record(1, observed), record(2, good)]
}

fn notes_of(lane: &Lane, policy: &WorkloadPolicy) -> Vec<String> {
    let id = &policy.id;
    let asked = policy.signals.values().filter(|signal| is_asked_for(signal)).map(|signal| &signal.name);
    let unanswered = asked.filter(|signal| !lane.has_answers(signal)).map(|signal| {
        format!("{id}: nothing is known of {signal}: the recording has no {QUERY}{{signal=\"{signal}\"}}")
    });
    if lane.is_empty() {
        return std::iter::once(format!("{id}: no series of the recording is about it")).chain(unanswered).collect();
    }
    let mut notes = vec![format!("{id}: releases are told by {}", lane.told_by())];
    notes.extend(unanswered);
    if let Some(cadence) = lane.cadence().filter(|cadence| *cadence > policy.interval) {
        notes.push(format!(
            "{id}: the recording looks every {cadence}, so the interval is that instead of {}",
            policy.interval
        ));
    }
    notes
}

/// Whether a server computes the signal.
fn is_asked_for(signal: &Signal) -> bool {
    signal.candidates.iter().any(|candidate| candidate.formula == Formula::Query)
}

fn nothing_near(id: &WorkloadId, policy: &WorkloadPolicy, trigger: &crate::domain::policy::Trigger) -> Near {
    let unit = policy.signals.get(&trigger.signal).map_or(crate::domain::units::Unit::Plain, |signal| signal.unit);
    Near {
        workload: id.clone(),
        trigger: trigger.name.to_string(),
        unit,
        condition: Some(trigger.condition),
        worst: None,
        longest: None,
        hold_for: trigger.hold_for,
        fired: 0,
        unknown: (0, 0),
    }
}

fn note_near(near: &mut Near, trigger: &TriggerStatus, now: Timestamp) {
    near.unknown.1 += 1;
    near.unknown.0 += u64::from(matches!(trigger.evidence.verdict, Verdict::Unknown(_)));
    let evidence = trigger.first_term();
    if let Some(value) = evidence.value.map(crate::domain::units::Finite::get) {
        let is_worse = |worst: f64| match evidence.condition {
            Some(Condition::Below(_)) => value < worst,
            Some(Condition::Above(_) | Condition::WorseThanBaseline(_)) | None => value > worst,
        };
        if near.worst.is_none_or(|(_, worst)| is_worse(worst)) {
            near.worst = Some((now, value));
        }
    }
    let (since, held) = match trigger.state {
        TriggerState::Pending { since, held } => (since, held),
        // A breach that fires goes on until it is over.
        TriggerState::Firing { since, at } => {
            near.fired += u32::from(at == now);
            (since, if evidence.verdict == Verdict::Breach { now } else { at }.since(since))
        }
        TriggerState::Inactive => return,
    };
    if near.longest.is_none_or(|(_, longest)| held > longest) {
        near.longest = Some((since, held));
    }
}
