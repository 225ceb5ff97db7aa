//! The event loop while the journal can't be written: nothing is lost, nothing is done twice, nothing is stuck.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollbackd::domain::controller::{Refusal, Request, RequestKind};
use rollbackd::domain::fleet::Fleet;
use rollbackd::domain::id::{InstanceId, WorkloadId};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::observation::{Observation, ReleaseView, Seen};
use rollbackd::domain::policy::{Habitat, Release, SmokeTest, Strategy, WorkloadPolicy};
use rollbackd::domain::response::plan::{Finding, Outcome, Plan, StepKind};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::{Actuator, Batch, Journal, JournalError, Looks, Notice, Pager, Witness};
use rollbackd::engine::{Edges, Engine, Handle};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{DAWN, policy};

/// A journal that fails when it is told to, and insists on the order of records as the real one does.
#[derive(Default)]
struct Flaky {
    full: AtomicBool,
    /// Answers to the next commits, before `full` is asked.
    next: Mutex<VecDeque<bool>>,
    records: Mutex<Vec<Record>>,
}

impl Journal for Flaky {
    async fn commit(&self, batch: Batch) -> Result<(), JournalError> {
        let works = self.next.lock().unwrap().pop_front().unwrap_or(!self.full.load(Ordering::SeqCst));
        if !works {
            return Err(JournalError("disk full".to_owned()));
        }
        let mut records = self.records.lock().unwrap();
        for record in batch.records {
            let last = records.iter().rev().find(|known| known.workload == record.workload);
            let expected = last.map_or(4, |known| known.sequence + 1);
            if record.sequence != expected {
                return Err(JournalError(format!("record {} where {expected} is next", record.sequence)));
            }
            records.push(record);
        }
        Ok(())
    }
}

impl Flaky {
    fn names(&self, workload: &str) -> Vec<&'static str> {
        let records = self.records.lock().unwrap();
        records.iter().filter(|r| r.workload.as_str() == workload).map(|r| r.event.name()).collect()
    }
}

/// Looks plans over when it is let.
struct Hands(Semaphore, AtomicUsize);

impl Actuator for Hands {
    async fn preflight(&self, _: &WorkloadPolicy, _: &Plan) -> Vec<Finding> {
        self.0.acquire().await.unwrap().forget();
        self.1.fetch_add(1, Ordering::SeqCst);
        Vec::new()
    }

    async fn survey(&self, _: &WorkloadPolicy, _: Option<&Plan>) -> Vec<Finding> {
        Vec::new()
    }

    async fn execute(&self, _: &WorkloadId, _: &StepKind, _: Span) -> Outcome {
        std::future::pending().await
    }

    async fn smoke(&self, _: &WorkloadId, _: &Habitat, _: &SmokeTest) -> (bool, String) {
        std::future::pending().await
    }
}

struct Nobody;

impl Looks for Nobody {
    fn pace(&self, _: &WorkloadId, _: bool) {}
    fn nudge(&self, _: &WorkloadId) {}
}

impl Pager for Nobody {
    fn page(&self, _: Notice) {}
}

impl Witness for Nobody {
    fn committed(&self, _: &Batch) {}
    fn journal(&self, _: Option<&JournalError>) {}
}

struct Stage {
    journal: Arc<Flaky>,
    hands: Arc<Hands>,
    engine: Handle,
    seen: mpsc::Sender<Observation>,
    stop: CancellationToken,
}

/// v1 is known good, v2 is in place.
fn state(policy: &WorkloadPolicy) -> WorkloadState {
    let (v1, v2) = ("v1".into(), "v2".into());
    let observed = |revision: &rollbackd::domain::id::RevisionId, previous| Event::ReleaseObserved {
        revision: revision.clone(),
        image: None,
        previous,
        by_rollback: false,
        older_faults: Vec::new(),
    };
    let events =
        [observed(&v1, None), Event::KnownGood { revision: v1.clone(), since: DAWN }, observed(&v2, Some(v1.clone()))];
    let mut state = WorkloadState::default();
    for (event, sequence) in events.into_iter().zip(1..) {
        let record = Record { workload: policy.id.clone(), sequence, incident: None, at: DAWN, event };
        state.apply(&record).unwrap();
    }
    state
}

/// An engine that watches these workloads, each in a namespace of its own.
async fn stage(names: &[&str]) -> Stage {
    let mut fleet = Fleet::default();
    let (seen, observations) = mpsc::channel(64);
    for name in names {
        let mut policy = policy(Strategy::Direct, &["a"]);
        policy.id = WorkloadId::new(*name);
        policy.namespace = (*name).to_owned();
        let state = state(&policy);
        fleet.add(Arc::new(policy), state);
        let release = |revision: &str| Release { revision: revision.into(), image: None };
        let view = ReleaseView {
            instances: vec![(InstanceId::new("a"), "v2".into())],
            available: vec![release("v1"), release("v2")],
            orchestrated: None,
        };
        let observation = Observation { workload: WorkloadId::new(*name), at: DAWN, seen: Seen::Releases(Ok(view)) };
        seen.send(observation).await.unwrap();
    }
    let journal = Arc::new(Flaky::default());
    let hands = Arc::new(Hands(Semaphore::new(0), AtomicUsize::new(0)));
    let began = Instant::now();
    let edges = Edges {
        journal: Arc::clone(&journal),
        actuator: Arc::clone(&hands),
        looks: Arc::new(Nobody),
        pager: Arc::new(Nobody),
        witness: Arc::new(Nobody),
        now: Arc::new(move || DAWN + Span::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap())),
    };
    let (engine, handle) = Engine::new(fleet, edges, observations);
    let stop = CancellationToken::new();
    tokio::spawn(engine.run(stop.clone()));
    let stage = Stage { journal, hands, engine: handle, seen, stop };
    stage.settle().await;
    stage
}

impl Stage {
    /// Waits for what must come; far longer than the retry of what could not be written.
    async fn until(&self, what: &str, done: impl Fn(&Stage) -> bool) {
        let patience = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < patience, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until what was seen is taken in.
    async fn settle(&self) {
        while self.seen.capacity() < self.seen.max_capacity() {
            tokio::task::yield_now().await;
        }
        self.engine.ping().await.unwrap();
    }

    async fn ask(&self, workload: &str, kind: RequestKind) -> Result<String, Refusal> {
        let request = Request { by: "ops".to_owned(), kind };
        let reply = self.engine.ask(WorkloadId::new(workload), request).await.unwrap();
        reply.map(|accepted| accepted.message)
    }

    async fn pause(&self, workload: &str) -> Result<String, Refusal> {
        self.ask(workload, RequestKind::Pause { reason: "looking".to_owned() }).await
    }

    async fn roll_back(&self, workload: &str) -> Result<String, Refusal> {
        let force = vec!["fleet-budget".to_owned()];
        self.ask(workload, RequestKind::Rollback { reason: "by hand".to_owned(), to: None, force }).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_new_policy_waits_until_the_journal_can_be_written() {
    let stage = stage(&["app"]).await;
    let trigger = RequestKind::Trigger { kind: "security".to_owned(), reason: "a leak".to_owned() };
    stage.ask("app", trigger).await.unwrap();
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("app").await.unwrap_err();
    let refused = stage.engine.adopt(Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the journal could not be written: disk full");
    assert_eq!(stage.engine.list().await.unwrap().len(), 1);
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the pause is written", |stage| stage.journal.names("app").contains(&"paused")).await;
    stage.engine.adopt(Vec::new()).await.unwrap();
    assert_eq!(stage.journal.names("app").last(), Some(&"closed"));
    assert_eq!(stage.engine.list().await.unwrap(), []);
}

#[tokio::test]
async fn every_answer_counts_though_the_journal_breaks_again_between_two() {
    let stage = stage(&["x", "y", "z"]).await;
    stage.roll_back("x").await.unwrap();
    stage.roll_back("y").await.unwrap();
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("z").await.unwrap_err();
    stage.hands.0.add_permits(2);
    stage.until("both plans are looked over", |stage| stage.hands.1.load(Ordering::SeqCst) == 2).await;
    stage.settle().await;
    // The pause is written, what follows from the first answer is not.
    stage.journal.next.lock().unwrap().extend([true, false]);
    stage.journal.full.store(false, Ordering::SeqCst);
    for workload in ["x", "y"] {
        stage.until(workload, |stage| stage.journal.names(workload).contains(&"planned")).await;
    }
}

#[tokio::test]
async fn a_request_that_could_not_be_written_says_that_it_is_kept() {
    let stage = stage(&["app"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    let Refusal::Held { guard, reason } = stage.pause("app").await.unwrap_err() else { panic!("not held") };
    assert_eq!(guard, "journal-broken");
    assert_eq!(reason, "the journal could not be written: disk full; the request is kept, and counts once it can be");
    let explanation = stage.engine.explain(WorkloadId::new("app")).await.unwrap().unwrap();
    assert_eq!(explanation.decision, "nothing is done: the journal could not be written: disk full");
    // Nothing is even looked at now.
    let Refusal::Held { reason, .. } = stage.pause("app").await.unwrap_err() else { panic!("not held") };
    assert_eq!(reason, "the journal could not be written: disk full");
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the pause is written", |stage| stage.journal.names("app") == ["paused"]).await;
}
