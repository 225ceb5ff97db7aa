//! The one event loop. Its edges are [`ports`]; what it decides comes from the domain.
//!
//! The fleet says what follows from each input, one after another; the records of all that waited together are committed
//! together, and only then do jobs start and operators get their answer. While the journal can't be written, or does not
//! answer, the loop only remembers and judges what it sees. While another replica acts, it remembers and judges, so that
//! it can go on at once where the other one ends.

mod broken;
mod calls;
mod late;
pub mod ports;
mod standby;
mod told;
mod unread;
mod withheld;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::domain::controller::{Answer, Controller, Input, Job, JobResult, Output, Reply, Work};
use crate::domain::fleet::Fleet;
use crate::domain::id::WorkloadId;
use crate::domain::incident::state::WorkloadState;
use crate::domain::observation::Observation;
use crate::domain::time::Timestamp;

use broken::{Broken, PROBE_EVERY, late_outcome};
use late::Lateness;
use ports::{Actuator, Batch, Journal, Leadership, Looks, NotCommitted, Notice, Pager, Role, Witness};

use standby::Leaderless;
use unread::Unread;
use withheld::Withheld;

pub use calls::{Adoption, Call, Curve, Handle, NotAdopted, STOPPING, Unavailable};
pub use standby::STANDBY;

/// Calls from operators and pages that may wait.
const CALL_QUEUE: usize = 256;

/// Observations that may wait; a full queue makes the looks skip a round.
pub const OBSERVATION_QUEUE: usize = 4_096;

/// Answers that may wait: of a workload one job is out at a time, and a recording beside it.
const ANSWER_QUEUE: usize = 1_024;

/// Inputs taken in a row before what follows from them is written, and anything else gets its turn. A commit waits for the
/// disk and, where there are several replicas, for the API server: the more waits the fewer there must be. Of a thousand
/// workloads as much comes in a second.
const INPUTS_PER_TURN: usize = 1_024;

/// Longest sleep of the loop, so that a lost wake-up costs no more than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Time between two looks whether the term in which a step was begun is over.
const TERM_POLL: Duration = Duration::from_millis(100);

/// How long a running step may take to end once the daemon is told to stop.
const PARK_LIMIT: Duration = Duration::from_secs(20);

/// The same where another replica waits to go on: it asks the world instead.
const HANDOVER_LIMIT: Duration = Duration::from_millis(500);

/// Reads the daemon's timeline.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What follows from inputs that were taken, until it is on record.
#[derive(Default)]
struct Pending {
    batch: Batch,
    /// To be started after that.
    jobs: Vec<Job>,
    /// Whose inputs they were.
    workloads: Vec<WorkloadId>,
}

/// Everything that the engine needs from its edges.
pub struct Edges<J, A> {
    /// The durable record.
    pub journal: Arc<J>,
    /// Whatever changes the world.
    pub actuator: Arc<A>,
    /// Where and how often to look.
    pub looks: Arc<dyn Looks>,
    /// Tells people when the outbox can't be written.
    pub pager: Arc<dyn Pager>,
    /// Is told of everything that became durable.
    pub witness: Arc<dyn Witness>,
    /// Who acts.
    pub leadership: Arc<dyn Leadership>,
    /// The daemon's timeline.
    pub now: Now,
}

/// The event loop.
pub struct Engine<J, A> {
    fleet: Fleet,
    edges: Edges<J, A>,
    observations: mpsc::Receiver<Observation>,
    calls: mpsc::Receiver<Call>,
    answers: mpsc::Receiver<(WorkloadId, Answer)>,
    answer: mpsc::Sender<(WorkloadId, Answer)>,
    jobs: JoinSet<()>,
    /// Looks at a place, which change nothing: whoever stops waits for none.
    looks: JoinSet<()>,
    broken: Option<Broken>,
    /// The term for which the fleet goes by what is on record.
    term: Option<u64>,
    leaderless: Leaderless,
    lateness: Lateness,
    unread: BTreeMap<WorkloadId, Unread>,
    withheld: BTreeMap<WorkloadId, Withheld>,
    /// What is on record of workloads that are not watched, where that may be newer than what was read for the adoption that is
    /// still to come.
    departed: BTreeMap<WorkloadId, WorkloadState>,
    /// The daemon is about to stop: nothing is begun any more.
    is_parked: bool,
    next_tick: Timestamp,
    probe_at: Instant,
}

impl<J: Journal, A: Actuator> Engine<J, A> {
    /// An engine over a fleet that was folded from the journal, and the handle by which it is called. Where there are
    /// several replicas it stands by until it is told to lead.
    #[must_use]
    pub fn new(fleet: Fleet, edges: Edges<J, A>, observations: mpsc::Receiver<Observation>) -> (Self, Handle) {
        let (call, calls) = mpsc::channel(CALL_QUEUE);
        let (answer, answers) = mpsc::channel(ANSWER_QUEUE);
        let next_tick = (edges.now)();
        let role = edges.leadership.role();
        let engine = Self {
            fleet,
            edges,
            observations,
            calls,
            answers,
            answer,
            jobs: JoinSet::new(),
            looks: JoinSet::new(),
            broken: None,
            term: role.term().filter(|_| role == Role::Alone),
            leaderless: Leaderless::default(),
            lateness: Lateness::default(),
            unread: BTreeMap::new(),
            withheld: BTreeMap::new(),
            departed: BTreeMap::new(),
            is_parked: false,
            next_tick,
            probe_at: Instant::now() + PROBE_EVERY,
        };
        (engine, Handle::new(call))
    }

    /// Runs until `stop`; then begins nothing new, and gives a running step some time to end. What is cut off is
    /// taken up by the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        self.tick_all().await;
        while !stop.is_cancelled() {
            self.turn(&stop).await;
        }
        self.is_parked = true;
        self.looks.abort_all();
        let limit = if self.edges.leadership.role() == Role::Alone { PARK_LIMIT } else { HANDOVER_LIMIT };
        let park = async { while self.jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, park).await.is_err() {
            tracing::warn!(?limit, "a step was still running at shutdown; whoever goes on settles it");
        }
        while let Ok((id, answer)) = self.answers.try_recv() {
            self.feed(&id, Input::Done(answer)).await;
        }
    }

    async fn turn(&mut self, stop: &CancellationToken) {
        self.tick_all_due().await;
        let wait = self.sleep_length();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            written = late_outcome(self.broken.as_mut()) => self.settle(written).await,
            Some(call) = self.calls.recv() => {
                self.take_call(call).await;
                self.take_waiting().await;
            }
            Some(answer) = self.answers.recv() => self.take_answers(answer).await,
            Some(observation) = self.observations.recv() => self.take_observations(observation).await,
            Some(_) = self.jobs.join_next() => {}
            Some(_) = self.looks.join_next() => {}
            () = tokio::time::sleep_until(Instant::now() + wait) => {}
        }
        self.mend().await;
        self.probe().await;
        self.page_about_lead();
        self.page_about_unread();
        self.page_about_withheld();
        self.page_about_lateness();
    }

    /// However many calls come, some of what was observed and of what steps answer is taken in between.
    async fn take_waiting(&mut self) {
        if let Ok(answer) = self.answers.try_recv() {
            self.take_answers(answer).await;
        }
        if let Ok(observation) = self.observations.try_recv() {
            self.take_observations(observation).await;
        }
    }

    async fn tick_all(&mut self) {
        self.tick(self.fleet.iter().map(|(id, _)| id.clone()).collect()).await;
    }

    async fn tick(&mut self, ids: Vec<WorkloadId>) {
        for ids in ids.chunks(INPUTS_PER_TURN) {
            let mut pending = Pending::default();
            for id in ids {
                self.handle(id, Input::Tick, &mut pending);
            }
            self.carry_out(pending).await;
        }
    }

    fn now(&self) -> Timestamp {
        (self.edges.now)()
    }

    fn sleep_length(&self) -> Duration {
        let until = Duration::from(self.next_tick.since(self.now()));
        until.min(LONGEST_SLEEP)
    }

    async fn tick_all_due(&mut self) {
        let now = self.now();
        if now < self.next_tick {
            return;
        }
        if self.is_parked {
            self.next_tick = now + LONGEST_SLEEP.into();
            return;
        }
        let (next, due) = self.fleet.due(now);
        self.next_tick = next.unwrap_or(now + LONGEST_SLEEP.into());
        // What each wants next is noted with it.
        self.tick(due).await;
    }

    async fn take_observations(&mut self, first: Observation) {
        let mut pending = Pending::default();
        let mut next = Some(first);
        let is_full = self.observations.capacity() == 0;
        for left in (0..INPUTS_PER_TURN).rev() {
            let Some(observation) = next else { break };
            self.note_lag(&observation, is_full);
            let id = observation.workload.clone();
            self.handle(&id, Input::Observed(observation), &mut pending);
            next = if left > 0 { self.observations.try_recv().ok() } else { None };
        }
        self.carry_out(pending).await;
    }

    async fn take_answers(&mut self, first: (WorkloadId, Answer)) {
        let mut pending = Pending::default();
        let mut next = Some(first);
        for left in (0..INPUTS_PER_TURN).rev() {
            let Some((id, answer)) = next else { break };
            match &mut self.broken {
                Some(broken) => broken.inputs.push((id, Input::Done(answer))),
                None => {
                    self.handle(&id, Input::Done(answer), &mut pending);
                    self.edges.looks.nudge(&id);
                }
            }
            next = if left > 0 { self.answers.try_recv().ok() } else { None };
        }
        self.carry_out(pending).await;
    }

    /// What is left of an input once nothing is begun any more: the outcome of a step that ended in time is recorded, and
    /// nothing new begins, not even on record.
    fn parked(&self, input: Input) -> Option<Input> {
        match input {
            input if !self.is_parked => Some(input),
            Input::Done(answer) => Some(Input::Parked(answer)),
            Input::Parked(_) | Input::Asked(_) => Some(input),
            Input::Observed(_) | Input::Tick | Input::NotBegun(_) | Input::StoodStill(..) => None,
        }
    }

    /// One input to one workload, and everything that follows.
    async fn feed(&mut self, id: &WorkloadId, input: Input) -> Option<Reply> {
        let mut pending = Pending::default();
        let reply = self.handle(id, input, &mut pending);
        let is_done = self.carry_out(pending).await;
        if is_done || self.leads() { reply } else { reply.map(|_| Err(self.refusal())) }
    }

    /// Adds what follows from one input to what is to be carried out. While the journal is broken nothing follows, and of a
    /// workload whose shared record can't be read nothing does either.
    fn handle(&mut self, id: &WorkloadId, input: Input, pending: &mut Pending) -> Option<Reply> {
        if !self.leads() {
            return self.stand_by(id, input);
        }
        if self.broken.is_some() || self.is_withheld(id) {
            self.only_watch(id, input);
            return None;
        }
        let input = self.parked(input)?;
        let mut out = Output::default();
        let now = self.now();
        let reply = self.fleet.handle(id, input, now, &mut out);
        for illegal in &out.refused {
            tracing::error!(workload = %id, %illegal, "a record was refused; nothing was done");
        }
        if let Some(controller) = self.fleet.get(id) {
            let receivers = &controller.policy().notify;
            let notices = out.alerts.into_iter().map(|alert| Notice { alert, receivers: receivers.clone() });
            pending.batch.notices.extend(notices);
        }
        self.keep_pace(id);
        pending.batch.records.extend(out.records);
        pending.jobs.extend(out.jobs);
        pending.workloads.push(id.clone());
        reply
    }

    /// Looks and judges as often as a workload's state asks for.
    fn keep_pace(&mut self, id: &WorkloadId) {
        let Some(controller) = self.fleet.get(id) else { return };
        self.edges.looks.pace(id, controller.is_tense());
        self.next_tick = self.next_tick.min(controller.next_tick());
    }

    /// Commits, then starts the jobs; whether it could be committed. No durable record, no effect.
    async fn carry_out(&mut self, pending: Pending) -> bool {
        let Pending { mut batch, mut jobs, workloads } = pending;
        let is_committed = loop {
            let (committed, late) = if batch.is_empty() { (Ok(()), None) } else { self.write(batch.clone()).await };
            match committed {
                Ok(()) => {
                    self.after_commit(&batch, jobs);
                    break true;
                }
                // Where the term is over, whoever leads next goes by what is on record, and so does this one.
                Err(_) if !self.leads() => break false,
                Err(NotCommitted::Refused { workload, why }) => self.leave_out(&workload, why, &mut batch, &mut jobs),
                Err(NotCommitted::Journal(error)) => {
                    self.break_down(batch, jobs, error, late);
                    break false;
                }
            }
        };
        for id in workloads {
            if self.fleet.get(&id).is_some_and(Controller::has_left)
                && let Some(controller) = self.fleet.remove(&id)
            {
                self.departed.insert(id, controller.into_state());
            }
        }
        is_committed
    }

    fn after_commit(&mut self, batch: &Batch, jobs: Vec<Job>) {
        if !batch.is_empty() {
            self.edges.witness.committed(batch);
        }
        for record in &batch.records {
            self.hold_as_recorded(&record.workload);
        }
        if self.leads() && !self.is_parked {
            for job in jobs {
                self.start(job);
            }
        }
    }

    fn start(&mut self, job: Job) {
        let Job { workload, ticket, work } = job;
        let Some(policy) = self.fleet.get(&workload).map(|controller| Arc::clone(controller.policy())) else { return };
        let actuator = Arc::clone(&self.edges.actuator);
        let answer = self.answer.clone();
        let (leadership, term) = (Arc::clone(&self.edges.leadership), self.term);
        let spawned = if matches!(work, Work::Preflight(_)) { &mut self.looks } else { &mut self.jobs };
        spawned.spawn(async move {
            if leadership.role().term() != term {
                return;
            }
            let result = match work {
                Work::Preflight(plan) => JobResult::Preflight(actuator.preflight(&policy, &plan).await),
                Work::Step { kind, timeout } => {
                    let over = async {
                        while leadership.role().term() == term {
                            tokio::time::sleep(TERM_POLL).await;
                        }
                    };
                    tokio::select! {
                        outcome = actuator.execute(&workload, &kind, timeout) => JobResult::Step(outcome),
                        // Whoever leads next settles it, though that be this replica.
                        () = over => return,
                    }
                }
                Work::Smoke(smoke) => {
                    let (passed, detail) = actuator.smoke(&workload, &policy.habitat, &smoke).await;
                    JobResult::Smoke(passed, detail)
                }
                Work::Keep(wanted) => JobResult::Kept(actuator.keep(&workload, &wanted).await),
                Work::Record(wanted) => JobResult::Recorded(Box::new(actuator.record(&policy, &wanted).await)),
            };
            // The engine outlives its jobs; a closed channel means that it is gone and the next start asks again.
            let _ = answer.send((workload, Answer { ticket, result })).await;
        });
    }
}
