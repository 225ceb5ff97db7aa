//! The operator's hand: pause, resume, approve, reject, roll back, report a fault from outside.

use serde::{Deserialize, Serialize};

use super::{Controller, Output, Reply};
use crate::domain::id::{IncidentId, RevisionId};
use crate::domain::incident::alert::Phase;
use crate::domain::incident::narrate::LEFT;
use crate::domain::incident::record::{Cause, Closing, Event, Goal};
use crate::domain::incident::state::{Incident, Progress};
use crate::domain::response::guard::{FORCIBLE, FleetView};
use crate::domain::response::hold::Hold;
use crate::domain::time::Timestamp;

/// What an operator asks for, and who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Who, as the record will name them.
    pub by: String,
    /// What.
    pub kind: RequestKind,
}

/// What an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// Stop all changes to the workload.
    Pause {
        /// Why.
        reason: String,
    },
    /// Lift the pause.
    Resume,
    /// Say yes to an incident that waits for it.
    Approve {
        /// Which.
        incident: IncidentId,
        /// The release to go back to, as whoever says yes was told; none: the one that people were told of last.
        to: Option<RevisionId>,
    },
    /// Say no to an incident, or close one that was escalated or is held in the middle of its rollback.
    Reject {
        /// Which.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// Roll back by hand.
    Rollback {
        /// Why.
        reason: String,
        /// To which release; none: the last known good one.
        to: Option<RevisionId>,
        /// Guards to skip, by name.
        force: Vec<String>,
    },
    /// Report a fault that no signal shows: security, data, compliance.
    Trigger {
        /// Which sort.
        kind: String,
        /// Why.
        reason: String,
        /// The report's name at its source, where that one repeats itself.
        key: Option<String>,
    },
}

/// What was done about a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// The incident concerned.
    pub incident: Option<IncidentId>,
    /// In one sentence.
    pub message: String,
}

/// Why a request was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No such workload or incident.
    #[error("{0}")]
    NotFound(String),
    /// Does not fit the present state.
    #[error("{0}")]
    Conflict(String),
    /// The same was reported before, under this key, and what came of it stands.
    #[error("it was taken before")]
    Repeated,
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A guard holds; its name and its reason.
    #[error("held by {guard}: {reason}")]
    Held {
        /// The guard's name, as `--force` takes it.
        guard: String,
        /// Why.
        reason: String,
    },
}

impl Controller {
    pub(super) fn ask(&mut self, request: Request, now: Timestamp, fleet: &FleetView, out: &mut Output) -> Reply {
        let Request { by, kind } = request;
        match kind {
            RequestKind::Pause { reason } => self.pause(by, reason, now, out),
            RequestKind::Resume => self.resume(by, now, out),
            RequestKind::Approve { incident, to } => self.approve(by, &incident, to.as_ref(), now, out),
            RequestKind::Reject { incident, reason } => self.reject(by, &incident, reason, now, out),
            RequestKind::Rollback { reason, to, force } => {
                if let Some(unknown) = force.iter().find(|name| !FORCIBLE.contains(&name.as_str())) {
                    let known = FORCIBLE.join(", ");
                    return Err(Refusal::Invalid(format!("{unknown:?} can't be forced; these can: {known}")));
                }
                self.begin(Cause::Manual { by, reason, to, force }, now, fleet, out)
            }
            RequestKind::Trigger { kind, reason, key } => {
                self.report(Cause::External { by, kind, reason, key }, now, fleet, out)
            }
        }
    }

    fn pause(&mut self, by: String, reason: String, now: Timestamp, out: &mut Output) -> Reply {
        if let Some(pause) = &self.state.paused {
            let message =
                format!("paused already, by {} since {}: {}; that stays as it is", pause.by, pause.since, pause.reason);
            return Ok(self.accepted(&message));
        }
        self.note(Event::Paused { by, reason }, now, out);
        let incident = self.state.incident.as_ref();
        let is_running = incident.is_some_and(|incident| matches!(incident.progress, Progress::Running { .. }));
        Ok(self.accepted(if is_running {
            "paused: the step under way ends first, and nothing else is begun until it is resumed"
        } else {
            "paused: nothing will be changed until it is resumed"
        }))
    }

    fn resume(&mut self, by: String, now: Timestamp, out: &mut Output) -> Reply {
        if self.state.paused.is_none() {
            return Ok(self.accepted("it is not paused"));
        }
        self.note(Event::Resumed { by }, now, out);
        Ok(self.accepted("resumed"))
    }

    fn approve(
        &mut self,
        by: String,
        id: &IncidentId,
        to: Option<&RevisionId>,
        now: Timestamp,
        out: &mut Output,
    ) -> Reply {
        let phase = self.open_incident(id)?;
        let incident = self.state.incident.as_ref();
        let asked = incident.and_then(|incident| incident.goal.as_ref()).map(|goal| &goal.revision);
        if let (Phase::AwaitingApproval, Some(to), Some(asked)) = (phase, to, asked.filter(|asked| Some(*asked) != to))
        {
            return Err(Refusal::Conflict(format!("{id} would go back to {asked} by now, not to {to}")));
        }
        let approved = incident.and_then(|incident| incident.approved.as_deref());
        match (phase, approved) {
            (Phase::AwaitingApproval, Some(earlier)) => Ok(self
                .accepted(&format!("approved already, by {earlier}: the rollback begins unless another guard holds"))),
            (Phase::AwaitingApproval, None) => {
                self.record(Event::Approved { by }, now, out);
                Ok(self.accepted("approved: the rollback begins unless another guard holds"))
            }
            (phase, _) => Err(Refusal::Conflict(format!("{id} does not wait for approval: it is {phase}"))),
        }
    }

    fn reject(&mut self, by: String, id: &IncidentId, reason: String, now: Timestamp, out: &mut Output) -> Reply {
        match self.open_incident(id)? {
            Phase::Held | Phase::AwaitingApproval if self.is_held_half_way() => {
                self.leave_to_a_human(by, reason, now, out)
            }
            Phase::Suspected | Phase::Detected | Phase::Held | Phase::AwaitingApproval
                if !self.is_acting() && !self.is_reported() =>
            {
                self.record(Event::Rejected { by, reason }, now, out);
                Ok(self.accepted("rejected: nothing is done about this incident"))
            }
            Phase::Suspected | Phase::Detected | Phase::Held | Phase::AwaitingApproval | Phase::Escalated
                if !self.is_acting() =>
            {
                self.record(Event::Closed { how: Closing::ByOperator { by, reason } }, now, out);
                Ok(self.accepted("closed"))
            }
            phase => Err(Refusal::Conflict(format!("{id} is {phase}; pause the workload to stop it"))),
        }
    }

    /// Whether a rollback was begun that goes no further unless somebody says so.
    fn is_held_half_way(&self) -> bool {
        let is_begun = self.state.incident.as_ref().is_some_and(|incident| incident.plan.is_some());
        is_begun && (self.halt().is_some() || !self.is_acting())
    }

    /// Closes a rollback where it stands, and says where that is. Settings that belong to no release in place are a human's
    /// business still: with them it is escalated, and closed by another word.
    fn leave_to_a_human(&mut self, by: String, reason: String, now: Timestamp, out: &mut Output) -> Reply {
        if self.in_flight.is_some() {
            return Err(Refusal::Conflict("what was begun is not over yet: reject it once that is".to_owned()));
        }
        let down = if self.left_down().is_some() { format!("{LEFT}it has no instances") } else { String::new() };
        let reason = format!("{reason}{}{down}", self.left_apart());
        self.close(Closing::ByOperator { by, reason }, now, out);
        Ok(self.accepted(match &self.state.incident {
            Some(_) => "escalated: its settings are not as before; reject it again once that is seen to",
            None => "closed: the rollback is left as it is, to a human",
        }))
    }

    /// Whether the open incident was reported: no signal will ever show that it is over.
    pub(super) fn is_reported(&self) -> bool {
        let cause = self.state.incident.as_ref().map(|incident| &incident.cause);
        matches!(cause, Some(Cause::Manual { .. } | Cause::External { .. }))
    }

    fn open_incident(&self, id: &IncidentId) -> Result<Phase, Refusal> {
        match &self.state.incident {
            Some(incident) if incident.id == *id => Ok(incident.phase),
            Some(_) | None => Err(Refusal::NotFound(format!("{id} is not open"))),
        }
    }

    /// Takes a report from outside. What was reported before is no news: it would page people again, and overrule who said
    /// no to it.
    fn report(&mut self, cause: Cause, now: Timestamp, fleet: &FleetView, out: &mut Output) -> Reply {
        if let Cause::External { key: Some(key), .. } = &cause
            && self.state.reported.contains(key)
        {
            return Err(Refusal::Repeated);
        }
        if let Some(open) = self.state.incident.as_ref().filter(|open| is_same_report(&open.cause, &cause)) {
            let message = match &open.hold {
                Some(hold) => format!("reported already; held: {hold}"),
                None => format!("reported already; the incident is {}", open.phase),
            };
            return Ok(self.accepted(&message));
        }
        self.begin(cause, now, fleet, out)
    }

    /// Opens an incident, or takes the open one over, and says at once whether a guard holds.
    fn begin(&mut self, cause: Cause, now: Timestamp, fleet: &FleetView, out: &mut Output) -> Reply {
        if self.is_acting() {
            let held = self.halt().map(|hold| format!(", and held: {hold}; it goes on once that is over"));
            let held = held.unwrap_or_default();
            return Err(Refusal::Conflict(format!("a rollback of this workload is under way{held}")));
        }
        let goal = match &cause {
            Cause::Manual { .. } => self.refuse(&cause, now, fleet, out).map_err(|hold| {
                let (guard, reason) = (hold.as_str().to_owned(), hold.to_string());
                Refusal::Held { guard, reason }
            })?,
            Cause::Trigger { .. } | Cause::Blind { .. } | Cause::External { .. } => self.present_goal(now).ok(),
        };
        let event = Event::Detected {
            cause,
            from: self.state.current.clone(),
            onset: now,
            goal,
            mode: self.policy.mode,
            strategy: self.policy.strategy,
            assessment: Box::new(self.assessment.clone()),
        };
        self.preflight = None;
        self.preflight_asked = None;
        self.record(event, now, out);
        let Some(incident) = &self.state.incident else {
            return Err(Refusal::Conflict("the incident could not be recorded".to_owned()));
        };
        let hold = self.rule(incident, now, fleet).hold().cloned();
        let accepted = self.accepted("accepted: the plan is looked over, then carried out");
        match hold {
            Some(hold) => Ok(Accepted { message: format!("recorded, but held: {hold}"), ..accepted }),
            None => Ok(accepted),
        }
    }

    /// The goal of a rollback by hand. Where a guard refuses it, that is recorded: whoever asked is told in the answer, so
    /// nothing is opened that would page somebody else, and an open incident about a fault goes on as before.
    fn refuse(
        &mut self,
        cause: &Cause,
        now: Timestamp,
        fleet: &FleetView,
        out: &mut Output,
    ) -> Result<Option<Goal>, Hold> {
        let (mode, strategy) = (self.policy.mode, self.policy.strategy);
        let mut probe = Incident::hypothetical(cause.clone(), self.state.current.clone(), mode, strategy, now);
        if let Some(open) = &self.state.incident {
            probe.id = open.id.clone();
        }
        let ruling = self.rule(&probe, now, fleet);
        let Some(hold) = ruling.hold().cloned() else { return Ok(ruling.goal) };
        let event = Event::Refused {
            cause: cause.clone(),
            from: self.state.current.clone(),
            hold: hold.clone(),
            goal: ruling.goal,
            mode,
            strategy,
            assessment: Box::new(self.assessment.clone()),
        };
        let id = self.new_incident_id(now);
        self.write(Some(id), event, now, out);
        Err(hold)
    }

    fn accepted(&self, message: &str) -> Accepted {
        let incident = self.state.incident.as_ref().map(|incident| incident.id.clone());
        Accepted { incident, message: message.to_owned() }
    }
}

/// Whether somebody reports once more what the open incident is about. What has a key of its own is another report.
fn is_same_report(open: &Cause, again: &Cause) -> bool {
    let Cause::External { kind, reason, .. } = open else { return false };
    matches!(again, Cause::External { kind: k, reason: r, key: None, .. } if k == kind && r == reason)
}
