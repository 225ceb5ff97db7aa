//! The event loop while the journal can't be written: nothing is lost, nothing is done twice, nothing is stuck.

mod adopted;
mod hands;
mod parked;
mod standby;
mod terms;
mod withheld;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hands::Hands;
use rollbackd::domain::controller::{Refusal, Request, RequestKind};
use rollbackd::domain::fleet::Fleet;
use rollbackd::domain::id::{InstanceId, WorkloadId};
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::observation::{Observation, ReleaseView, Seen};
use rollbackd::domain::policy::{Release, Strategy, WorkloadPolicy};
use rollbackd::domain::response::guard::Guard;
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::{
    Batch, Journal, JournalError, Leadership, Looks, NotCommitted, Notice, Pager, Role, Witness,
};
use rollbackd::engine::{Edges, Engine, Handle};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::world::{DAWN, policy};

/// A journal that fails when it is told to, and insists on the order of records as the real one does.
#[derive(Default)]
struct Flaky {
    full: AtomicBool,
    /// Nothing is on record.
    is_empty: AtomicBool,
    /// Answers to the next commits, before `full` is asked.
    next: Mutex<VecDeque<bool>>,
    records: Mutex<Vec<Record>>,
    /// Held by whoever wants a commit to take its time.
    slow: tokio::sync::Mutex<()>,
    /// Commits that were begun.
    commits: AtomicUsize,
}

impl Journal for Flaky {
    async fn commit(&self, batch: Batch) -> Result<(), NotCommitted> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        drop(self.slow.lock().await);
        let works = self.next.lock().unwrap().pop_front().unwrap_or(!self.full.load(Ordering::SeqCst));
        if !works {
            return Err(JournalError("disk full".to_owned()).into());
        }
        let mut records = self.records.lock().unwrap();
        let before = records.len();
        for record in batch.records {
            let last = records.iter().rev().find(|known| known.workload == record.workload);
            let first = if self.is_empty.load(Ordering::SeqCst) { 1 } else { 4 };
            let expected = last.map_or(first, |known| known.sequence + 1);
            if record.sequence != expected {
                records.truncate(before);
                let why = format!("record {} where {expected} is next", record.sequence);
                return Err(NotCommitted::Refused { workload: record.workload, why });
            }
            records.push(record);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), JournalError> {
        if self.full.load(Ordering::SeqCst) { Err(JournalError("disk full".to_owned())) } else { Ok(()) }
    }
}

impl Flaky {
    fn names(&self, workload: &str) -> Vec<&'static str> {
        let records = self.records.lock().unwrap();
        records.iter().filter(|r| r.workload.as_str() == workload).map(|r| r.event.name()).collect()
    }
}

/// Says who acts.
struct Chair(Mutex<Role>);

impl Leadership for Chair {
    fn role(&self) -> Role {
        self.0.lock().unwrap().clone()
    }

    fn leader(&self) -> Option<String> {
        None
    }

    fn forfeit(&self, _: u64) {}
}

struct Nobody;

impl Looks for Nobody {
    fn pace(&self, _: &WorkloadId, _: bool) {}
    fn nudge(&self, _: &WorkloadId) {}
}

/// Keeps what people are told without the outbox.
#[derive(Default)]
struct Pages(Mutex<Vec<Notice>>);

impl Pager for Pages {
    fn page(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

impl Witness for Nobody {
    fn committed(&self, _: &Batch) {}
    fn journal(&self, _: Option<&JournalError>) {}
}

struct Stage {
    journal: Arc<Flaky>,
    hands: Arc<Hands>,
    chair: Arc<Chair>,
    pages: Arc<Pages>,
    /// Milliseconds by which the clock was set forward.
    ahead: Arc<AtomicU64>,
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
        instances: [].into(),
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

/// A workload is seen to be at a release.
fn at(workload: &str, revision: &str) -> Observation {
    let release = |revision: &str| Release { revision: revision.into(), image: None };
    let view = ReleaseView {
        instances: vec![(InstanceId::new("a"), revision.into())],
        available: vec![release("v1"), release("v2"), release("v3")],
        ..ReleaseView::default()
    };
    Observation { workload: WorkloadId::new(workload), at: DAWN, seen: Seen::Releases(Ok(view)) }
}

/// An engine that watches these workloads, each in a namespace of its own.
async fn stage(names: &[&str]) -> Stage {
    stage_as(Role::Alone, names).await
}

async fn stage_as(role: Role, names: &[&str]) -> Stage {
    let mut fleet = Fleet::default();
    let (seen, observations) = mpsc::channel(64);
    for name in names {
        let mut policy = policy(Strategy::Direct, &["a"]);
        policy.id = WorkloadId::new(*name);
        policy.namespace = (*name).to_owned();
        let state = state(&policy);
        fleet.add(Arc::new(policy), state);
        seen.send(at(name, "v2")).await.unwrap();
    }
    let journal = Arc::new(Flaky::default());
    let hands = Arc::new(Hands::new());
    let chair = Arc::new(Chair(Mutex::new(role)));
    let (pages, ahead) = (Arc::new(Pages::default()), Arc::new(AtomicU64::new(0)));
    let (began, skew) = (Instant::now(), Arc::clone(&ahead));
    let elapsed = move || u64::try_from(began.elapsed().as_millis()).unwrap() + skew.load(Ordering::SeqCst);
    let edges = Edges {
        journal: Arc::clone(&journal),
        actuator: Arc::clone(&hands),
        looks: Arc::new(Nobody),
        pager: Arc::clone(&pages) as Arc<dyn Pager>,
        witness: Arc::new(Nobody),
        leadership: Arc::clone(&chair) as Arc<dyn Leadership>,
        now: Arc::new(move || DAWN + Span::from_millis(elapsed())),
    };
    let (engine, handle) = Engine::new(fleet, edges, observations);
    let stop = CancellationToken::new();
    tokio::spawn(engine.run(stop.clone()));
    let stage = Stage { journal, hands, chair, pages, ahead, engine: handle, seen, stop };
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

    async fn until_decided(&self, what: &str, done: impl Fn(&str) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let explanation = self.engine.explain(WorkloadId::new("app")).await.unwrap().unwrap();
            if done(&explanation.decision) {
                return;
            }
            assert!(Instant::now() < patience, "never: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until what was seen is taken in.
    async fn settle(&self) {
        while self.seen.capacity() < self.seen.max_capacity() {
            tokio::task::yield_now().await;
        }
        self.engine.ping().await.unwrap();
    }

    /// Workloads of which no step that is under way goes any further.
    fn held(&self) -> Vec<String> {
        self.hands.held.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    /// Incidents of the daemon's own that whoever was told of them believes to be open.
    fn open_pages(&self) -> Vec<String> {
        let mut open = BTreeMap::new();
        for Notice { alert, receivers } in self.pages.0.lock().unwrap().iter() {
            let key = (alert.incident.to_string(), receivers.clone());
            if alert.phase == Phase::Closed {
                open.remove(&key)
            } else {
                open.insert(key, ())
            };
        }
        open.into_keys().map(|(incident, _)| incident).collect()
    }

    async fn ask(&self, workload: &str, kind: RequestKind) -> Result<String, Refusal> {
        let request = Request { by: "ops".to_owned(), kind };
        let reply = self.engine.ask(WorkloadId::new(workload), request).await.unwrap();
        reply.map(|accepted| accepted.message)
    }

    async fn pause(&self, workload: &str) -> Result<String, Refusal> {
        self.ask(workload, RequestKind::Pause { reason: "looking".to_owned() }).await
    }

    /// What stops a rollback, by its preview and by who asks why alike.
    async fn guards_that_hold(&self, workload: &str) -> Vec<String> {
        let held = |guards: Vec<Guard>| -> Vec<String> {
            let holds = guards.into_iter().filter_map(|guard| Some((guard.name, guard.hold?)));
            holds.map(|(name, hold)| format!("{name}: {hold}")).collect()
        };
        // The look at the place takes one.
        self.hands.plans.add_permits(1);
        let preview = self.engine.preview(WorkloadId::new(workload)).await.unwrap().unwrap();
        let explanation = self.engine.explain(WorkloadId::new(workload)).await.unwrap().unwrap();
        assert!(preview.guards.iter().all(|guard| guard.hold.is_none()) || !preview.is_clear());
        let (preview, explanation) = (held(preview.guards), held(explanation.guards));
        assert_eq!(preview, explanation);
        preview
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
    stage.ask("app", leak()).await.unwrap();
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("app").await.unwrap();
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
    stage.pause("z").await.unwrap();
    stage.hands.plans.add_permits(2);
    stage.until("both plans are looked over", |stage| stage.hands.looked_over.load(Ordering::SeqCst) == 2).await;
    stage.settle().await;
    // The pause is written, what follows from the first answer is not.
    stage.journal.next.lock().unwrap().extend([true, false]);
    stage.journal.full.store(false, Ordering::SeqCst);
    for workload in ["x", "y"] {
        stage.until(workload, |stage| stage.journal.names(workload).contains(&"planned")).await;
    }
}

#[tokio::test]
async fn whoever_asks_for_a_preview_is_told_that_the_place_does_not_answer() {
    let stage = stage(&["app"]).await;
    let preview = stage.engine.preview("app".into()).await.unwrap().unwrap();
    let told: Vec<String> = preview.findings.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["look: the place has not answered within 8 s"]);
    assert!(!preview.is_clear());
}

/// A request of which nothing happens without a record.
fn leak() -> RequestKind {
    RequestKind::Trigger { kind: "security".to_owned(), reason: "a leak".to_owned(), key: None }
}

#[tokio::test]
async fn a_request_that_could_not_be_written_says_that_it_is_kept() {
    let stage = stage(&["app"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    let Refusal::Held { guard, reason } = stage.ask("app", leak()).await.unwrap_err() else { panic!("not held") };
    assert_eq!(guard, "journal-broken");
    assert_eq!(reason, "the journal could not be written: disk full; the request is kept, and counts once it can be");
    let explanation = stage.engine.explain(WorkloadId::new("app")).await.unwrap().unwrap();
    assert!(explanation.decision.starts_with("nothing is done since 2027-"), "{}", explanation.decision);
    assert!(
        explanation.decision.ends_with(": the journal could not be written: disk full"),
        "{}",
        explanation.decision
    );
    let view = stage.engine.view(WorkloadId::new("app")).await.unwrap().unwrap();
    assert_eq!(view.standstill.unwrap().reason, "the journal could not be written: disk full");
    // Nothing is even looked at now.
    let Refusal::Held { reason, .. } = stage.ask("app", leak()).await.unwrap_err() else { panic!("not held") };
    assert_eq!(reason, "the journal could not be written: disk full");
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the report is written", |stage| stage.journal.names("app").contains(&"detected")).await;
    stage.engine.ping().await.unwrap();
    let view = stage.engine.view(WorkloadId::new("app")).await.unwrap().unwrap();
    assert_eq!(view.standstill, None);
}

/// Who can't have it on record can have it all the same: nothing is begun that was not, when the journal can be written again.
#[tokio::test]
async fn a_pause_counts_before_anything_else_though_the_journal_was_broken() {
    let stage = stage(&["app", "other"]).await;
    stage.roll_back("app").await.unwrap();
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.hands.plans.add_permits(1);
    stage.until("the plan is looked over", |stage| stage.hands.looked_over.load(Ordering::SeqCst) == 1).await;
    stage.until_decided("the journal is found broken", |decision| decision.contains("disk full")).await;
    for workload in ["app", "other"] {
        let said = stage.pause(workload).await.unwrap();
        assert!(said.starts_with("paused, in memory only: the journal could not be written: disk full. "), "{said}");
    }
    let view = stage.engine.view(WorkloadId::new("app")).await.unwrap().unwrap();
    assert_eq!(view.paused.unwrap().reason, "looking");
    let broken = "journal-broken: the journal could not be written: disk full".to_owned();
    let held = stage.guards_that_hold("other").await;
    assert!(held.starts_with(&[broken, "paused: paused by ops: looking".to_owned()]), "{held:?}");
    assert_eq!(stage.held(), ["app", "other"], "what is under way goes no further");
    let lifted = stage.ask("other", RequestKind::Resume).await.unwrap();
    assert!(lifted.starts_with("the pause that was not on record yet is lifted"), "{lifted}");
    assert_eq!(stage.held(), ["app"]);
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("it is paused", |stage| stage.journal.names("app").contains(&"paused")).await;
    stage.until("it is held", |stage| stage.journal.names("app").contains(&"held")).await;
    stage.settle().await;
    assert_eq!(stage.hands.begun.load(Ordering::SeqCst), 0, "no step was begun");
    assert!(stage.journal.names("other").is_empty());
}

const STANDBY: Role = Role::Standby { leader: None };

impl Stage {
    fn sits(&self, role: Role) {
        *self.chair.0.lock().unwrap() = role;
    }

    async fn is_told_to_ask_the_leader(&self) {
        let Refusal::Held { guard, .. } = self.pause("app").await.unwrap_err() else { panic!("not held") };
        assert_eq!(guard, "standby");
    }
}

fn known() -> Vec<(WorkloadId, WorkloadState)> {
    vec![("app".into(), state(&policy(Strategy::Direct, &["a"])))]
}

#[tokio::test]
async fn a_replica_that_stands_by_answers_and_records_nothing() {
    let stage = stage_as(Role::Standby { leader: Some("other".to_owned()) }, &["app"]).await;
    let Refusal::Held { guard, reason } = stage.pause("app").await.unwrap_err() else { panic!("not held") };
    assert_eq!([guard.as_str(), reason.as_str()], ["standby", "this replica stands by, other leads"]);
    let explanation = stage.engine.explain("app".into()).await.unwrap().unwrap();
    assert_eq!(explanation.decision, "nothing is done: this replica stands by, other leads");
    assert_eq!(stage.engine.list().await.unwrap()[0].current.as_ref().unwrap().revision.as_str(), "v2");
    // What the leader records is what this one shows.
    let mut states = known();
    let paused = Event::Paused { by: "ops".to_owned(), reason: "looking".to_owned() };
    let record = Record { workload: "app".into(), sequence: 4, incident: None, at: DAWN, event: paused };
    states[0].1.apply(&record).unwrap();
    stage.engine.follow(states).await.unwrap();
    assert!(stage.engine.list().await.unwrap()[0].paused.is_some());
    assert!(stage.journal.names("app").is_empty());
}

#[tokio::test]
async fn a_replica_acts_in_the_term_for_which_it_took_over_and_in_no_other() {
    let stage = stage_as(STANDBY, &["app"]).await;
    // The lease is held, but nobody has read what is on record.
    stage.sits(Role::Leader { term: 1 });
    stage.is_told_to_ask_the_leader().await;
    assert!(!stage.engine.lead(2, known(), BTreeMap::new()).await.unwrap(), "that is not its term");
    stage.is_told_to_ask_the_leader().await;
    assert!(stage.engine.lead(1, known(), BTreeMap::new()).await.unwrap());
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused"]);
    // The lease was lost and won again: somebody else may have written meanwhile.
    stage.sits(Role::Leader { term: 2 });
    stage.is_told_to_ask_the_leader().await;
    assert_eq!(stage.journal.names("app"), ["paused"]);
}

#[tokio::test]
async fn a_plan_that_was_looked_over_too_late_is_not_begun() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app"]).await;
    assert!(stage.engine.lead(1, known(), BTreeMap::new()).await.unwrap());
    stage.roll_back("app").await.unwrap();
    stage.sits(STANDBY);
    stage.hands.plans.add_permits(1);
    stage.until("the plan is looked over", |stage| stage.hands.looked_over.load(Ordering::SeqCst) == 1).await;
    stage.settle().await;
    stage.is_told_to_ask_the_leader().await;
    assert_eq!(stage.journal.names("app"), ["detected"]);
}

#[tokio::test]
async fn what_could_not_be_written_before_the_term_ended_is_forgotten() {
    let stage = stage_as(Role::Leader { term: 1 }, &["app"]).await;
    assert!(stage.engine.lead(1, known(), BTreeMap::new()).await.unwrap());
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("app").await.unwrap();
    assert_eq!(stage.held(), ["app"]);
    stage.sits(STANDBY);
    stage.is_told_to_ask_the_leader().await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.sits(Role::Leader { term: 2 });
    assert!(stage.engine.lead(2, known(), BTreeMap::new()).await.unwrap());
    assert!(stage.engine.list().await.unwrap()[0].paused.is_none());
    assert_eq!(stage.held(), [""; 0]);
    stage.pause("app").await.unwrap();
    assert_eq!(stage.journal.names("app"), ["paused"]);
}

/// The time in which nobody leads is told by the replica that led last, and by no other.
#[tokio::test]
async fn people_are_told_where_nobody_leads_for_long() {
    let [led, never] = [1, 2].map(|_| stage_as(Role::Leader { term: 1 }, &["app"]));
    let (led, never) = tokio::join!(led, never);
    assert!(led.engine.lead(1, known(), BTreeMap::new()).await.unwrap());
    for stage in [&led, &never] {
        stage.sits(STANDBY);
        stage.engine.ping().await.unwrap();
        stage.settle().await;
        stage.ahead.store(59_000, Ordering::SeqCst);
        stage.engine.ping().await.unwrap();
        assert!(stage.pages.0.lock().unwrap().is_empty());
        stage.ahead.store(3_600_000, Ordering::SeqCst);
        stage.engine.ping().await.unwrap();
        stage.settle().await;
    }
    led.until("it is told", |stage| !stage.pages.0.lock().unwrap().is_empty()).await;
    assert!(led.pages.0.lock().unwrap()[0].alert.summary.contains("no other replica holds it"));
    assert_eq!(led.open_pages(), ["rollbackd-lease"]);
    led.sits(Role::Standby { leader: Some("other".to_owned()) });
    led.until("it is over", |stage| stage.open_pages().is_empty()).await;
    assert!(never.pages.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_could_not_be_recorded_in_time_is_not_begun_late() {
    let stage = stage(&["app"]).await;
    stage.roll_back("app").await.unwrap();
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.hands.plans.add_permits(1);
    stage.until("the plan is looked over", |stage| stage.hands.looked_over.load(Ordering::SeqCst) == 1).await;
    // Longer than what is begun as if nothing had been.
    tokio::time::sleep(Duration::from_secs(6)).await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("the attempt failed", |stage| stage.journal.names("app").contains(&"failed")).await;
    let names = stage.journal.names("app");
    assert!(names.ends_with(&["planned", "step-started", "step-finished", "failed"]), "{names:?}");
    assert_eq!(stage.hands.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn that_the_journal_can_not_be_written_is_found_out_while_nothing_happens() {
    let stage = stage(&["app"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    let told = ": the journal could not be written: disk full";
    stage.until_decided("the journal is found broken", |decision| decision.ends_with(told)).await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until_decided("the journal is found whole", |decision| !decision.ends_with(told)).await;
    stage.pause("app").await.unwrap();
}

/// A disk that hangs says nothing. People are told past it, questions are answered, nothing is begun, and what was being
/// written is never written a second time.
#[tokio::test]
async fn a_journal_that_does_not_answer_is_told_and_waited_for() {
    let stage = stage(&["app", "other"]).await;
    stage.roll_back("app").await.unwrap();
    let hanging = stage.journal.slow.lock().await;
    let before = stage.journal.commits.load(Ordering::SeqCst);
    stage.hands.plans.add_permits(1);
    let told = "the journal could not be written: no answer within 6s: what it lies on hangs";
    stage.until_decided("it is told", |decision| decision.ends_with(told)).await;
    assert_eq!(stage.engine.ping().await.unwrap().unwrap().to_string(), told);
    let pages: Vec<String> = stage.pages.0.lock().unwrap().iter().map(|page| page.alert.reason.clone()).collect();
    assert_eq!(pages, [format!("{told}; nothing is rolled back until it can be written again")]);
    for workload in ["app", "other"] {
        let view = stage.engine.view(workload.into()).await.unwrap().unwrap();
        assert_eq!(view.standstill.unwrap().reason, told);
        assert!(stage.pause(workload).await.unwrap().starts_with("paused, in memory only: "));
    }
    // Longer than the time after which what failed is tried again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.journal.commits.load(Ordering::SeqCst), before + 1, "it is being written still");
    drop(hanging);
    for workload in ["app", "other"] {
        stage.until("it is paused", |stage| stage.journal.names(workload).contains(&"paused")).await;
    }
    stage.until("it is held", |stage| stage.journal.names("app").contains(&"held")).await;
    assert_eq!(stage.engine.ping().await.unwrap().map(|error| error.to_string()), None);
    let last = stage.pages.0.lock().unwrap().last().unwrap().alert.clone();
    assert_eq!((last.incident.as_str(), last.phase), ("rollbackd-journal", Phase::Closed));
    assert_eq!(last.summary, "rollbackd: closed, the journal can be written again.");
    assert_eq!(stage.open_pages(), [""; 0]);
    let names = stage.journal.names("app");
    assert!(
        names.starts_with(&["detected", "planned", "step-started", "paused", "held", "step-finished"]),
        "{names:?}"
    );
    assert_eq!(stage.hands.begun.load(Ordering::SeqCst), 0, "no step was begun");
}

/// The same while nothing happens, with a disk that fails in the end.
#[tokio::test]
async fn what_took_too_long_and_then_failed_is_tried_again() {
    let stage = stage(&["app"]).await;
    let hanging = stage.journal.slow.lock().await;
    stage.seen.send(at("app", "v3")).await.unwrap();
    stage.until("it is told", |stage| stage.pages.0.lock().unwrap().len() == 1).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    drop(hanging);
    stage.until_decided("it has failed", |decision| decision.ends_with("disk full")).await;
    stage.journal.full.store(false, Ordering::SeqCst);
    stage.until("it is written", |stage| stage.journal.names("app") == ["release-observed"]).await;
}

#[tokio::test]
async fn told_to_stop_the_loop_ends_though_the_journal_does_not_answer() {
    for is_told in [false, true] {
        let stage = stage(&["app"]).await;
        let _hanging = stage.journal.slow.lock().await;
        let before = stage.journal.commits.load(Ordering::SeqCst);
        stage.seen.send(at("app", "v3")).await.unwrap();
        let so_far = |stage: &Stage| match is_told {
            false => stage.journal.commits.load(Ordering::SeqCst) > before,
            true => !stage.pages.0.lock().unwrap().is_empty(),
        };
        stage.until("it hangs", so_far).await;
        stage.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(8), async { while stage.engine.ping().await.is_ok() {} });
        ended.await.unwrap();
    }
}

/// What goes on then, the next start finds out for itself, and tells.
#[tokio::test]
async fn told_to_stop_it_leaves_no_page_open() {
    let stage = stage(&["app"]).await;
    stage.journal.full.store(true, Ordering::SeqCst);
    stage.pause("app").await.unwrap();
    assert_eq!(stage.open_pages(), ["rollbackd-journal"]);
    stage.engine.park().await.unwrap();
    assert_eq!(stage.open_pages(), [""; 0]);
    assert!(stage.pages.0.lock().unwrap()[1].alert.reason.contains("told to stop"));
}

/// A commit takes as long as a disk or an API server takes: were each on its own, many workloads at once would be blind.
#[tokio::test]
async fn what_waits_meanwhile_is_written_together() {
    let names: Vec<String> = (0..40).map(|number| format!("app-{number}")).collect();
    let stage = stage(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let held = stage.journal.slow.lock().await;
    let before = stage.journal.commits.load(Ordering::SeqCst);
    stage.seen.send(at("app-0", "v3")).await.unwrap();
    let is_begun = |stage: &Stage| stage.journal.commits.load(Ordering::SeqCst) > before;
    stage.until("the first is being written", is_begun).await;
    for name in &names[1..] {
        stage.seen.send(at(name, "v3")).await.unwrap();
    }
    drop(held);
    for name in &names {
        stage.until(name, |stage| stage.journal.names(name).contains(&"release-observed")).await;
    }
    // The first, the others, and what some of them may be due besides.
    let commits = stage.journal.commits.load(Ordering::SeqCst) - before;
    assert!(commits <= 10, "{commits} commits");
}

/// A daemon that is behind sees nothing of any workload. That is its own fault, and told as such, once.
#[tokio::test]
async fn what_is_judged_too_late_is_no_blindness_of_a_workload() {
    let stage = stage(&["app"]).await;
    let pages = |stage: &Stage| {
        let pages = stage.pages.0.lock().unwrap();
        pages.iter().map(|page| page.alert.summary.clone()).collect::<Vec<_>>()
    };
    // Nothing is known of its signals for far longer than makes it blind, and all the while what comes was seen long ago.
    for seconds in (5..=50).step_by(5) {
        let late = DAWN + Span::from_secs(seconds) - Span::from_secs(5);
        stage.ahead.store(seconds * 1_000, Ordering::SeqCst);
        stage.seen.send(Observation { at: late, ..at("app", "v2") }).await.unwrap();
        stage.settle().await;
    }
    assert!(stage.engine.view("app".into()).await.unwrap().unwrap().assessment.blind.is_some());
    assert!(stage.journal.names("app").is_empty(), "{:?}", stage.journal.names("app"));
    let told = pages(&stage);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("rollbackd can't act: it is behind: what it judges now was seen 5"), "{told:?}");
    // It keeps up again, and this one is out of sight all the same.
    stage.ahead.store(80_000, Ordering::SeqCst);
    stage.until("blind", |stage| stage.journal.names("app").contains(&"detected")).await;
    assert_eq!(pages(&stage)[1..], ["rollbackd: closed, what is seen is judged in time."]);
    assert_eq!(stage.open_pages(), [""; 0]);
}
