//! The whole story of one incident, told from its records by the same fold that the daemon lives by.

mod attempt;
mod moment;
mod receipt;

use serde::Serialize;

use super::alert::{Phase, Times};
use super::narrate;
use super::record::{Cause, Event, Goal, Record, Running};
use super::recording::Recording;
use super::state::{Applied, Illegal, Incident, WorkloadState};
use crate::domain::health::verdict::{Assessment, CheckStatus, Evidence, TriggerStatus};
use crate::domain::id::{IncidentId, RevisionId, SignalName, WorkloadId};
use crate::domain::policy::{Condition, Mode, Severity, Strategy};
use crate::domain::time::{Span, Timestamp};
use crate::domain::units::{Finite, Unit};

pub use attempt::{Attempt, AttemptStep};
pub use moment::Moment;
pub use receipt::{Receipt, ReceiptState};

/// From the first breach to its detection: 5 minutes, from the procedures' table of rollback metrics.
pub const DETECT_TARGET: Span = Span::from_secs(300);
/// From detection to the decision: 10 minutes, from the same table.
pub const DECIDE_TARGET: Span = Span::from_secs(600);
/// From the decision to the proof that the service is well: 15 minutes, from the same table.
pub const ROLL_BACK_TARGET: Span = Span::from_secs(900);
/// From the first breach to the proof that the service is well: 30 minutes, from the same table.
pub const RECOVER_TARGET: Span = Span::from_secs(1800);

/// An incident from its first suspicion to its end, or to where it is now.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub incident: IncidentId,
    /// Whose.
    pub workload: WorkloadId,
    /// Where it is; where it ended, once it is over.
    pub outcome: Phase,
    /// Whether it is still going on.
    pub open: bool,
    /// The last message about it: one sentence.
    pub summary: String,
    /// What set it off: the trigger's name, or `blind`, `manual`, the external kind.
    pub trigger: String,
    /// What set it off, in words.
    pub cause: String,
    /// How grave it is.
    pub severity: Severity,
    /// How far the daemon might go.
    pub mode: Mode,
    /// How a bad release is taken back.
    pub strategy: Strategy,
    /// The release in question, and since when it was current.
    pub from: Option<NamedRelease>,
    /// The release to go back to, and since when it was known good.
    pub to: Option<NamedRelease>,
    /// Time of the first record.
    pub began: Timestamp,
    /// Time of the last record, once it is over.
    pub ended: Option<Timestamp>,
    /// When what happened.
    pub times: Times,
    /// The measured times against their targets.
    pub measures: Vec<Measure>,
    /// Every trigger as it stood at detection.
    pub evidence: Vec<TriggerStatus>,
    /// What was kept of the bad release before anything was touched.
    pub recording: Option<Recording>,
    /// Every time that nothing was done, and why.
    pub holds: Vec<HeldFor>,
    /// Guards that an operator skipped by name.
    pub forced: Vec<String>,
    /// Every plan, and what came of it.
    pub attempts: Vec<Attempt>,
    /// Checks of the last verification.
    pub checks: Vec<CheckStatus>,
    /// The last smoke test.
    pub smoke: Option<SmokeResult>,
    /// Everything, in order.
    pub timeline: Vec<Moment>,
    /// Every message that was sent.
    pub alerts: Vec<Told>,
    /// The signals around the incident, the one that set it off first.
    pub plots: Vec<Plot>,
}

/// A release, and a time that says why it is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NamedRelease {
    /// Its name.
    pub revision: RevisionId,
    /// Where it lies or what it is made of.
    pub image: Option<String>,
    /// Since when it was current, or known good.
    pub since: Option<Timestamp>,
}

/// A measured time against its target.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measure {
    /// `TTD`, `TTDEC`, `TTR` or `MTTR`.
    pub name: &'static str,
    /// What it measures.
    pub meaning: &'static str,
    /// In seconds; none where it did not come to that.
    pub seconds: Option<f64>,
    /// In seconds.
    pub target_s: f64,
}

impl Measure {
    /// Whether the target was met, where there is a measurement.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        self.seconds.map(|seconds| seconds <= self.target_s)
    }
}

/// A time in which nothing was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HeldFor {
    /// Since when.
    pub at: Timestamp,
    /// Until something else happened.
    pub until: Option<Timestamp>,
    /// The guard's name.
    pub guard: String,
    /// Why, in words.
    pub reason: String,
}

/// How a smoke test ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SmokeResult {
    /// When.
    pub at: Timestamp,
    /// Whether it passed.
    pub passed: bool,
    /// Exit status and the end of its output.
    pub detail: String,
}

/// A message that was sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Told {
    /// Position among the incident's messages.
    pub sequence: u64,
    /// When it was caused.
    pub at: Timestamp,
    /// The phase that it tells of.
    pub phase: Phase,
    /// Its one sentence.
    pub summary: String,
    /// What became of it, by receiver; empty where that is not known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<Receipt>,
}

/// Values by time, in the order of time; none where it was unknown.
pub type Points = Vec<(Timestamp, Option<Finite>)>;

/// Readings of signals; none where it was unknown.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Readings {
    /// By signal, in the order of time.
    pub signals: Vec<(SignalName, Points)>,
}

/// A signal around the incident.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plot {
    /// Which signal.
    pub signal: SignalName,
    /// What it is measured in.
    pub unit: Unit,
    /// The bound that it was judged against.
    pub condition: Option<Condition>,
    /// In the order of time; none where it was unknown.
    pub points: Points,
}

/// Why there is no report.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoReport {
    /// Not one record is about an incident.
    #[error("there is no record of this incident")]
    NoRecord,
    /// The records contradict one another.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

impl Report {
    /// Tells an incident from its records, oldest first. Records of the workload itself between them may be there or not.
    ///
    /// # Errors
    /// [`NoReport`] where there is nothing to tell, or the records contradict one another.
    pub fn from_records(records: &[Record], readings: Readings) -> Result<Self, NoReport> {
        let mut state = WorkloadState::default();
        let mut telling = Telling::default();
        for record in records {
            // Records that are not about this incident may be left out, and their numbers with them.
            state.sequence = record.sequence.saturating_sub(1);
            let applied = state.apply(record)?;
            if record.incident.is_none() {
                continue;
            }
            let incident = match (&applied, &state.incident) {
                (Applied::Transition(incident), _) => (**incident).clone(),
                (Applied::Silent, Some(incident)) => incident.clone(),
                (Applied::Silent, None) => continue,
            };
            let is_told = matches!(applied, Applied::Transition(_));
            telling.take(record, incident, is_told);
        }
        telling.finish(readings)
    }

    /// Adds what became of each message, by its position.
    #[must_use]
    pub fn with_receipts(mut self, receipts: Vec<(u64, Receipt)>) -> Self {
        for (sequence, receipt) in receipts {
            if let Some(told) = self.alerts.iter_mut().find(|told| told.sequence == sequence) {
                told.receipts.push(receipt);
            }
        }
        self
    }
}

/// A report being told.
#[derive(Default)]
struct Telling {
    first: Option<Timestamp>,
    last: Option<(Incident, WorkloadId, Timestamp)>,
    assessment: Option<Assessment>,
    recording: Option<Recording>,
    holds: Vec<HeldFor>,
    forced: Vec<String>,
    attempts: Vec<Attempt>,
    smoke: Option<SmokeResult>,
    timeline: Vec<Moment>,
    alerts: Vec<Told>,
}

impl Telling {
    fn take(&mut self, record: &Record, incident: Incident, is_told: bool) {
        let at = record.at;
        self.first.get_or_insert(at);
        // The step that was under way may end meanwhile.
        if let Some(hold) = self.holds.last_mut().filter(|_| !matches!(record.event, Event::StepFinished { .. })) {
            hold.until.get_or_insert(at);
        }
        match &record.event {
            Event::Detected { assessment, .. } => self.assessment = Some((**assessment).clone()),
            Event::Held { hold, .. } => {
                self.holds.push(HeldFor { at, until: None, guard: hold.as_str().to_owned(), reason: hold.to_string() })
            }
            Event::Refused { hold, assessment, .. } => {
                self.assessment = Some((**assessment).clone());
                self.holds.push(HeldFor {
                    at,
                    until: Some(at),
                    guard: hold.as_str().to_owned(),
                    reason: hold.to_string(),
                });
            }
            Event::Recorded { recording } => self.recording = Some((**recording).clone()),
            Event::Planned { forced, .. } => self.forced.clone_from(forced),
            Event::SmokeFinished { passed, detail } => {
                self.smoke = Some(SmokeResult { at, passed: *passed, detail: detail.clone() });
            }
            Event::ReleaseObserved { .. }
            | Event::KnownGood { .. }
            | Event::SettingsKept { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::OwnerPutBack { .. }
            | Event::Suspected { .. }
            | Event::StillPending { .. }
            | Event::FoundBeside { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::Continued { .. }
            | Event::StepStarted { .. }
            | Event::StepFinished { .. }
            | Event::Verifying
            | Event::SmokeStarted
            | Event::Restored { .. }
            | Event::Failed { .. }
            | Event::Escalated { .. }
            | Event::Closed { .. } => {}
        }
        attempt::take(&mut self.attempts, record);
        moment::take(&mut self.timeline, record, &incident);
        if is_told {
            let alert = narrate::alert(&record.workload, &incident, &record.event);
            let (sequence, phase, summary) = (alert.sequence, alert.phase, alert.summary);
            self.alerts.push(Told { sequence, at, phase, summary, receipts: Vec::new() });
        }
        self.last = Some((incident, record.workload.clone(), at));
    }

    fn finish(self, readings: Readings) -> Result<Report, NoReport> {
        let (Some(began), Some((incident, workload, last_at))) = (self.first, self.last) else {
            return Err(NoReport::NoRecord);
        };
        let open = !matches!(incident.phase, Phase::Restored | Phase::Closed);
        let from = from_release(&incident, self.assessment.as_ref());
        let plots = plots(&incident, self.assessment.as_ref(), readings);
        Ok(Report {
            incident: incident.id,
            workload,
            outcome: incident.phase,
            open,
            summary: self.alerts.last().map(|told| told.summary.clone()).unwrap_or_default(),
            trigger: incident.cause.name().to_owned(),
            cause: narrate::describe(&incident.cause),
            severity: incident.cause.severity(),
            mode: incident.mode,
            strategy: incident.strategy,
            from,
            to: incident.goal.map(NamedRelease::from),
            began,
            ended: (!open).then_some(last_at),
            measures: measures(&incident.times),
            times: incident.times,
            evidence: self.assessment.map(|assessment| assessment.triggers).unwrap_or_default(),
            recording: self.recording,
            holds: self.holds,
            forced: self.forced,
            attempts: self.attempts,
            checks: incident.checks,
            smoke: self.smoke,
            timeline: self.timeline,
            alerts: self.alerts,
            plots,
        })
    }
}

impl From<Running> for NamedRelease {
    fn from(running: Running) -> Self {
        Self { revision: running.revision, image: running.image, since: Some(running.since) }
    }
}

impl From<Goal> for NamedRelease {
    fn from(goal: Goal) -> Self {
        Self { revision: goal.revision, image: goal.image, since: goal.known_good_since }
    }
}

/// An incident that begins with its detection takes the release from the workload's state, which the incident's own
/// records do not hold: plan and assessment name it then.
fn from_release(incident: &Incident, assessment: Option<&Assessment>) -> Option<NamedRelease> {
    let named = |revision: &RevisionId| NamedRelease { revision: revision.clone(), image: None, since: None };
    incident
        .from
        .clone()
        .map(NamedRelease::from)
        .or_else(|| incident.plan.as_ref().map(|plan| named(&plan.from)))
        .or_else(|| assessment.and_then(|assessment| assessment.revision.as_ref()).map(named))
}

fn measures(times: &Times) -> Vec<Measure> {
    let measure =
        |name, meaning, seconds, target: Span| Measure { name, meaning, seconds, target_s: target.as_secs_f64() };
    vec![
        measure("TTD", "first breach to detection", times.ttd_s, DETECT_TARGET),
        measure("TTDEC", "detection to decision", times.ttdec_s, DECIDE_TARGET),
        measure("TTR", "decision to proof", times.ttr_s, ROLL_BACK_TARGET),
        measure("MTTR", "first breach to proof", times.mttr_s, RECOVER_TARGET),
    ]
}

fn plots(incident: &Incident, assessment: Option<&Assessment>, readings: Readings) -> Vec<Plot> {
    let cause: Option<&Evidence> = match &incident.cause {
        Cause::Trigger { evidence, .. } => Some(evidence),
        Cause::Blind { .. } | Cause::Manual { .. } | Cause::External { .. } => None,
    };
    let judged = assessment.into_iter().flat_map(|all| all.triggers.iter().map(|trigger| &trigger.evidence));
    let shown = assessment.into_iter().flat_map(|all| &all.signals);
    let evidence: Vec<&Evidence> = cause.into_iter().chain(judged).chain(shown).collect();
    let mut plots: Vec<Plot> = readings
        .signals
        .into_iter()
        .filter(|(_, points)| points.iter().filter(|(_, value)| value.is_some()).count() > 1)
        .map(|(signal, points)| {
            let known = evidence.iter().find(|evidence| evidence.signal == signal);
            Plot {
                unit: known.map_or(Unit::Plain, |evidence| evidence.unit),
                condition: known.and_then(|evidence| evidence.condition),
                signal,
                points,
            }
        })
        .collect();
    plots.sort_by_key(|plot| (cause.is_none_or(|cause| cause.signal != plot.signal), plot.condition.is_none()));
    plots
}
