//! Questions and requests from outside the loop, answered in their turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::ports::{Actuator, Journal, JournalError};
use super::{Engine, Input};
use crate::domain::controller::{Controller, Explanation, Preview, Refusal, Reply, Request, RequestKind, WorkloadView};
use crate::domain::health::memory::Memory;
use crate::domain::id::{SignalName, WorkloadId};
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::{Habitat, WorkloadPolicy};
use crate::domain::response::plan::{Aspect, Finding};
use crate::domain::time::Timestamp;
use crate::domain::units::{Finite, Unit};

/// The guard's name for a request to a daemon that is about to stop.
pub const STOPPING: &str = "stopping";

/// How long whoever asks for a preview waits for the look at the place. A rollback that was decided waits for as long as the
/// policy lets its programs run.
const PREVIEW_LIMIT: Duration = Duration::from_secs(8);

/// A signal's recent values.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    /// Which signal.
    pub signal: SignalName,
    /// What it is measured in.
    pub unit: Unit,
    /// Value by time; none where it was unknown.
    pub points: Vec<(Timestamp, Option<Finite>)>,
}

/// A policy to put in force, with what the journal says of its workload.
#[derive(Debug)]
pub struct Adoption {
    /// The policy.
    pub policy: Arc<WorkloadPolicy>,
    /// The fold of its records, used where the workload is not watched yet; or why they can't be followed, in one line: then it
    /// is left alone, unless it is watched.
    pub state: Result<WorkloadState, String>,
    /// What was kept of its windows; used where the workload is not watched yet.
    pub memory: Memory,
}

/// One call.
#[derive(Debug)]
pub enum Call {
    /// Proves that the loop turns, and tells where the journal has not answered for long.
    Ping(oneshot::Sender<Option<JournalError>>),
    /// All workloads.
    List(oneshot::Sender<Vec<WorkloadView>>),
    /// One workload.
    View(WorkloadId, oneshot::Sender<Option<WorkloadView>>),
    /// Why one workload is as it is.
    Explain(WorkloadId, oneshot::Sender<Option<Explanation>>),
    /// What a rollback by hand would do now, looked over at the place.
    Preview(WorkloadId, oneshot::Sender<Option<Preview>>),
    /// Every signal's recent values.
    Curves(WorkloadId, oneshot::Sender<Vec<Curve>>),
    /// What is worth keeping of a workload's windows.
    Memory(WorkloadId, oneshot::Sender<Option<Memory>>),
    /// An operator's request.
    Ask(WorkloadId, Request, oneshot::Sender<Reply>),
    /// Puts these policies in force and forgets all other workloads.
    Adopt(Vec<Adoption>, oneshot::Sender<Result<(), JournalError>>),
    /// Ends what was begun for workloads that are not in the policy any more, and then forgets them.
    Part(Vec<Adoption>, oneshot::Sender<()>),
    /// Goes on from these states, and leaves those alone of which there is none, and why, for a term of this daemon's; says
    /// whether that term is still going on.
    Lead(u64, Vec<(WorkloadId, WorkloadState)>, BTreeMap<WorkloadId, String>, oneshot::Sender<bool>),
    /// Begins nothing more: the daemon is about to stop.
    Park(oneshot::Sender<()>),
    /// What another replica recorded.
    Follow(Vec<(WorkloadId, WorkloadState)>, oneshot::Sender<()>),
}

/// Calls the engine.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Call>);

/// The engine has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Unavailable;

/// Why policies were not put in force.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotAdopted {
    /// The engine has stopped.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// What follows from them can't be written, or something before them could not be.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Handle {
    pub(super) const fn new(calls: mpsc::Sender<Call>) -> Self {
        Self(calls)
    }

    async fn call<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.0.send(make(answer)).await.map_err(|_| Unavailable)?;
        answered.await.map_err(|_| Unavailable)
    }

    /// Returns once the loop has turned. Where the journal has not answered for long, gives what is told of it: the loop turns,
    /// and yet nothing gets on.
    ///
    /// # Errors
    /// As all calls: [`Unavailable`] once the engine has stopped.
    pub async fn ping(&self) -> Result<Option<JournalError>, Unavailable> {
        self.call(Call::Ping).await
    }

    /// All workloads, by name.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn list(&self) -> Result<Vec<WorkloadView>, Unavailable> {
        self.call(Call::List).await
    }

    /// One workload.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn view(&self, id: WorkloadId) -> Result<Option<WorkloadView>, Unavailable> {
        self.call(|answer| Call::View(id, answer)).await
    }

    /// Why one workload is as it is.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn explain(&self, id: WorkloadId) -> Result<Option<Explanation>, Unavailable> {
        self.call(|answer| Call::Explain(id, answer)).await
    }

    /// What a rollback by hand would do now, looked over at the place. Changes nothing.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn preview(&self, id: WorkloadId) -> Result<Option<Preview>, Unavailable> {
        self.call(|answer| Call::Preview(id, answer)).await
    }

    /// Every signal's recent values.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn curves(&self, id: WorkloadId) -> Result<Vec<Curve>, Unavailable> {
        self.call(|answer| Call::Curves(id, answer)).await
    }

    /// What is worth keeping of a workload's windows for the next start.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn memory(&self, id: WorkloadId) -> Result<Option<Memory>, Unavailable> {
        self.call(|answer| Call::Memory(id, answer)).await
    }

    /// An operator's request. The answer comes once what it caused is durable.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn ask(&self, id: WorkloadId, request: Request) -> Result<Reply, Unavailable> {
        self.call(|answer| Call::Ask(id, request, answer)).await
    }

    /// Puts these policies in force and forgets all other workloads.
    ///
    /// # Errors
    /// [`NotAdopted`]: the policies before stay in force.
    pub async fn adopt(&self, policies: Vec<Adoption>) -> Result<(), NotAdopted> {
        Ok(self.call(|answer| Call::Adopt(policies, answer)).await??)
    }

    /// Ends what was begun for workloads that left the policy while nobody was there, and then forgets them. Returns once it
    /// has begun.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn part(&self, left: Vec<Adoption>) -> Result<(), Unavailable> {
        self.call(|answer| Call::Part(left, answer)).await
    }

    /// Goes on from these states, for a term of this daemon's: `false` where that is over already. The `withheld` ones, whose
    /// shared record can't be read, are only watched while it lasts; why, in one line each.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn lead(
        &self,
        term: u64,
        states: Vec<(WorkloadId, WorkloadState)>,
        withheld: BTreeMap<WorkloadId, String>,
    ) -> Result<bool, Unavailable> {
        self.call(|answer| Call::Lead(term, states, withheld, answer)).await
    }

    /// From its answer on nothing is begun any more; what runs may end.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn park(&self) -> Result<(), Unavailable> {
        self.call(Call::Park).await
    }

    /// Takes over what another replica recorded; nothing where this one leads.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn follow(&self, states: Vec<(WorkloadId, WorkloadState)>) -> Result<(), Unavailable> {
        self.call(|answer| Call::Follow(states, answer)).await
    }
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    pub(super) async fn take_call(&mut self, call: Call) {
        let now = self.now();
        match call {
            Call::Ping(answer) => answered(answer.send(self.what_hangs())),
            Call::List(answer) => {
                let watched = self.fleet.iter().map(|(_, controller)| self.note_standstill(controller.view_of(now)));
                let unread = self.set_aside_ones().filter_map(|id| self.view_unread(id, now));
                let mut all: Vec<WorkloadView> = watched.chain(unread).collect();
                all.sort_by(|a, b| a.workload.cmp(&b.workload));
                answered(answer.send(all));
            }
            Call::View(id, answer) => {
                let view = self.fleet.view_of(&id, now).map(|view| self.note_standstill(view));
                answered(answer.send(view.or_else(|| self.view_unread(&id, now))));
            }
            Call::Explain(id, answer) => answered(answer.send(self.explain(&id, now))),
            Call::Preview(id, answer) => self.preview(&id, answer),
            Call::Curves(id, answer) => answered(answer.send(self.curves_of(&id))),
            Call::Memory(id, answer) => {
                answered(answer.send(self.fleet.get(&id).map(|controller| controller.memory())));
            }
            Call::Ask(id, request, answer) => {
                let reply = self.ask(&id, request).await;
                answered(answer.send(reply));
            }
            Call::Adopt(policies, answer) => {
                let adopted = self.adopt(policies).await;
                answered(answer.send(adopted));
            }
            Call::Part(left, answer) => {
                self.part(left).await;
                answered(answer.send(()));
            }
            Call::Lead(term, states, withheld, answer) => {
                let leads = self.lead(term, states, withheld).await;
                answered(answer.send(leads));
            }
            Call::Park(answer) => {
                self.is_parked = true;
                self.end_pages();
                answered(answer.send(()));
            }
            Call::Follow(states, answer) => {
                self.follow(states);
                answered(answer.send(()));
            }
        }
    }

    fn explain(&mut self, id: &WorkloadId, now: Timestamp) -> Option<Explanation> {
        let Some(mut explanation) = self.fleet.explain(id, now) else { return self.explain_unread(id, now) };
        if self.fleet.get(id).is_some_and(Controller::is_leaving) {
            explanation.decision = "it is no longer in the policy: only what was begun is ended".to_owned();
        }
        if let Some(why) = self.why_standing_by() {
            explanation.decision = format!("nothing is done: {why}");
            explanation.would_change.insert(0, format!("nothing is done on standby: {why}"));
        }
        self.explain_standstill(&mut explanation);
        Some(explanation)
    }

    async fn ask(&mut self, id: &WorkloadId, request: Request) -> Reply {
        if let Some(refusal) = self.refuse_withheld(id) {
            return Err(refusal);
        }
        if self.broken.is_some() && self.leads() {
            return self.ask_while_broken(id, request);
        }
        if self.is_set_aside(id) {
            return Err(self.refuse_unread(id));
        }
        let is_pause = matches!(request.kind, RequestKind::Pause { .. });
        if self.is_parked && self.leads() && !is_pause {
            let reason = "the daemon is about to stop: nothing is begun any more".to_owned();
            return Err(Refusal::Held { guard: STOPPING.to_owned(), reason });
        }
        let reply = self.feed(id, Input::Asked(request)).await;
        if self.is_set_aside(id) {
            return Err(self.refuse_unread(id));
        }
        let kept = self.kept(is_pause, id);
        kept.or(reply).unwrap_or_else(|| Err(Refusal::NotFound(format!("no workload {id}"))))
    }

    /// The look at the place takes its time; the loop does not wait for it.
    fn preview(&mut self, id: &WorkloadId, answer: oneshot::Sender<Option<Preview>>) {
        let now = self.now();
        let Some(mut preview) = self.fleet.preview(id, now) else {
            let _ = answer.send(None);
            return;
        };
        self.guard_standstill(id, &mut preview.guards);
        preview.standby = self.standby();
        let known = self.fleet.get(id).map(|it| (Arc::clone(it.policy()), it.settings_named(preview.plan.as_ref())));
        let actuator = Arc::clone(&self.edges.actuator);
        self.looks.spawn(async move {
            if let Some((policy, settings)) = known {
                let missing = actuator.survey(&policy, preview.tried(), &preview.owners, &settings).await;
                let findings = match preview.tried() {
                    Some(plan) => {
                        let looked = timeout(PREVIEW_LIMIT, actuator.preflight(&policy, plan)).await;
                        looked.unwrap_or_else(|_| vec![too_slow(&policy)])
                    }
                    None => Vec::new(),
                };
                preview.note(findings, &missing);
            }
            let _ = answer.send(Some(preview));
        });
    }

    fn curves_of(&self, id: &WorkloadId) -> Vec<Curve> {
        let Some(controller) = self.fleet.get(id) else { return Vec::new() };
        let signals = controller.policy().signals.values();
        signals
            .map(|signal| Curve {
                signal: signal.name.clone(),
                unit: signal.unit,
                points: controller.history(&signal.name),
            })
            .collect()
    }

    /// While the journal is broken nothing is put in force: what waits to be written belongs to what is watched now.
    async fn adopt(&mut self, policies: Vec<Adoption>) -> Result<(), JournalError> {
        self.require_journal()?;
        let keep: BTreeSet<WorkloadId> = policies.iter().map(|adoption| adoption.policy.id.clone()).collect();
        let gone: Vec<WorkloadId> =
            self.fleet.iter().map(|(id, _)| id.clone()).filter(|id| !keep.contains(id)).collect();
        for id in &gone {
            // On standby the other replica ends what was begun, or the next term begins with it. So it does where nobody can
            // tell what was.
            if self.leads() && !self.is_withheld(id) {
                self.take_leave(id).await;
            } else {
                self.fleet.remove(id);
            }
            if let Err(error) = self.require_journal() {
                for id in &gone {
                    self.fleet.stay(id);
                }
                return Err(error);
            }
        }
        // One that could not be ended is among them.
        let left: Vec<WorkloadId> = self.unread.keys().filter(|id| !keep.contains(*id)).cloned().collect();
        for id in left {
            self.end_unread(&id, "it is no longer in the policy");
        }
        for Adoption { policy, state, memory } in policies {
            let id = policy.id.clone();
            // What is watched is known better than any reading says.
            let is_watched = self.fleet.adopt(Arc::clone(&policy));
            let state = match state {
                Ok(state) => {
                    let again = if is_watched { "" } else { ", and it is watched" };
                    self.end_unread(&id, &format!("its records can be followed{again} again"));
                    state
                }
                Err(why) => {
                    self.set_aside(policy, why);
                    continue;
                }
            };
            if !is_watched {
                let state = self.newest(&id, state);
                self.fleet.add(policy, state);
                self.fleet.recall(&id, memory);
            }
        }
        // Whatever is read from here on has it all.
        self.departed.clear();
        // The new policy may only observe what was under way.
        self.fleet.iter().for_each(|(id, _)| self.hold_as_recorded(id));
        self.next_tick = self.now();
        Ok(())
    }

    /// Ends what was begun for a workload that is not in the policy any more, and then forgets it.
    async fn take_leave(&mut self, id: &WorkloadId) {
        self.fleet.leave(id);
        self.feed(id, Input::Tick).await;
        if self.fleet.get(id).is_some() {
            tracing::info!(workload = %id, "no longer in the policy: what was begun for it is ended first");
        }
    }

    /// The same of workloads that left the policy while nobody was there.
    async fn part(&mut self, left: Vec<Adoption>) {
        for Adoption { policy, state, memory: _ } in left {
            let id = policy.id.clone();
            if !self.leads() {
                return;
            }
            if self.fleet.get(&id).is_none() {
                let Ok(state) = state else { continue };
                let state = self.newest(&id, state);
                self.fleet.add(policy, state);
            }
            self.take_leave(&id).await;
        }
    }

    /// What was read of a workload, unless more was recorded after that: it may have been ended meanwhile. Nothing where what
    /// is on record can't be read.
    fn newest(&mut self, id: &WorkloadId, read: WorkloadState) -> WorkloadState {
        if self.is_withheld(id) {
            return WorkloadState::default();
        }
        self.departed.remove(id).filter(|known| known.sequence > read.sequence).unwrap_or(read)
    }

    fn require_journal(&self) -> Result<(), JournalError> {
        self.broken.as_ref().map_or(Ok(()), |broken| Err(broken.error.clone()))
    }
}

/// Whoever asked may have gone: then nobody needs the answer.
fn answered<T>(_: Result<(), T>) {}

fn too_slow(policy: &WorkloadPolicy) -> Finding {
    let who = match policy.habitat {
        Habitat::Command(_) => "`current`, `releases` and `check` have",
        Habitat::ReleaseDir(_) | Habitat::Kubernetes(_) => "the place has",
    };
    let problem = format!("{who} not answered within {} s", PREVIEW_LIMIT.as_secs());
    Finding { aspect: Aspect::Place, check: "look".to_owned(), problem, passing: true }
}
