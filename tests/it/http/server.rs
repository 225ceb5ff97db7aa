//! A daemon's inside, on a real socket: the engine, the journal, the server. Time is the test's to move.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rollbackd::clock::Turns;
use rollbackd::domain::fleet::Fleet;
use rollbackd::domain::id::{RevisionId, WorkloadId};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::recording::{Recording, Wanted};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::observation::{Observation, ReleaseView, Seen};
use rollbackd::domain::policy::{Habitat, Mode, Release, SmokeTest, Strategy, WorkloadPolicy};
use rollbackd::domain::response::plan::{Finding, Outcome, Plan, StepKind};
use rollbackd::domain::settings::{Setting, ToKeep};
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::engine::ports::{Actuator, Alone, Batch, Journal, Looks, Notice, Pager};
use rollbackd::engine::{Edges, Engine, OBSERVATION_QUEUE};
use rollbackd::http::{AppState, Internal, Token, serve};
use rollbackd::store::Store;
use rollbackd::telemetry::{Metrics, Stream, Telemetry};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::policy;

/// The bearer token.
pub(crate) const TOKEN: &str = "s3cret-of-this-test";

/// A name that a hostile deployment might choose.
pub(crate) const NASTY: &str = "<script>alert(1)</script>\u{1b}[31m|`x`";

/// When the tests begin.
const BEGIN: i64 = 1_800_000_000_000;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where nothing can be changed.
struct Nowhere;

impl Actuator for Nowhere {
    async fn preflight(&self, _: &WorkloadPolicy, _: &Plan) -> Vec<Finding> {
        Vec::new()
    }

    async fn survey(
        &self,
        _: &WorkloadPolicy,
        _: Option<&Plan>,
        _: &[rollbackd::domain::policy::Owner],
        _: &[Setting],
    ) -> Vec<Finding> {
        Vec::new()
    }

    async fn execute(&self, _: &WorkloadId, _: &StepKind, _: Span) -> Outcome {
        Outcome::Denied(format!("nothing is here {NASTY}"))
    }

    async fn keep(&self, _: &WorkloadId, _: &ToKeep) -> Result<BTreeMap<Setting, String>, String> {
        Ok(BTreeMap::new())
    }

    async fn record(&self, _: &WorkloadPolicy, _: &Wanted) -> Recording {
        Recording::default()
    }

    async fn smoke(&self, _: &WorkloadId, _: &Habitat, _: &SmokeTest) -> (bool, String) {
        (true, String::new())
    }
}

impl Looks for Nowhere {
    fn pace(&self, _: &WorkloadId, _: bool) {}

    fn nudge(&self, _: &WorkloadId) {}
}

impl Pager for Nowhere {
    fn page(&self, _: Notice) {}
}

/// The daemon's inside.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) token_file: PathBuf,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    engine_stop: CancellationToken,
    turning: JoinHandle<()>,
    now: Arc<AtomicI64>,
    directory: TempDir,
    // The engine's source of observations must not end.
    _observe: mpsc::Sender<Observation>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Server {
    /// Three workloads, each at a release with a known good one before it: `app` may be rolled back, `gated` waits for
    /// approval, `odd` has releases with hostile names.
    pub(crate) async fn start() -> Self {
        Self::start_with(true).await
    }

    pub(crate) async fn start_with(with_token: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let token_file = directory.path().join("token");
        fs::write(&token_file, TOKEN).unwrap();
        let store = Store::open(&directory.path().join("state")).unwrap();
        let time = Arc::new(AtomicI64::new(BEGIN));
        let clock = Arc::clone(&time);
        let now: rollbackd::engine::Now = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)));
        let (metrics, stream) = (Arc::new(Metrics::default()), Stream::default());
        let (observe, observations) = mpsc::channel(OBSERVATION_QUEUE);
        let fleet = fleet(&store).await;
        let edges = Edges {
            journal: Arc::new(store.clone()),
            actuator: Arc::new(Nowhere),
            looks: Arc::new(Nowhere),
            pager: Arc::new(Nowhere),
            witness: Arc::new(Telemetry::new(Arc::clone(&metrics), stream.clone())),
            leadership: Arc::new(Alone),
            now: Arc::clone(&now),
        };
        let (engine, handle) = Engine::new(fleet, edges, observations);
        let (stop, engine_stop) = (CancellationToken::new(), CancellationToken::new());
        let turning = tokio::spawn(engine.run(engine_stop.clone()));
        let state = AppState {
            engine: handle,
            leadership: Arc::new(Alone),
            history: Arc::new(store.reader().clone()),
            metrics,
            stream,
            token: Token::new(with_token.then(|| token_file.clone())),
            of_wall: Arc::new(|wall| wall),
            now,
            external_host: Some("rollbackd.example.com".to_owned()),
            internal: Internal::new(stop.clone()),
        };
        let turns = Turns::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Arc::new(state), turns.clone(), stop.clone()));
        for (workload, good, bad) in releases() {
            let all = [bad, good].map(|name| Release { revision: RevisionId::new(name), image: None });
            let view = ReleaseView {
                instances: vec![("a".into(), bad.into())],
                available: all.to_vec(),
                ..ReleaseView::default()
            };
            let at = Timestamp::from_millis(BEGIN);
            observe.send(Observation { workload: workload.into(), at, seen: Seen::Releases(Ok(view)) }).await.unwrap();
        }
        let server =
            Self { address, token_file, stop, serving, engine_stop, turning, now: time, directory, _observe: observe };
        server.until("/api/v1/workloads/odd", |answer| answer.json()["goal"].is_object()).await;
        assert!(turns.count() > 1, "its loop is seen to turn");
        server
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, span: Span) {
        self.now.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    /// Somebody else has the journal locked for as long as this lives.
    pub(crate) fn locks_the_journal(&self) -> rusqlite::Connection {
        let journal = rusqlite::Connection::open(self.directory.path().join("state/journal.db")).unwrap();
        journal.execute_batch("BEGIN IMMEDIATE").unwrap();
        journal
    }

    /// Stops the engine, and nothing else.
    pub(crate) async fn stop_engine(&mut self) {
        self.engine_stop.cancel();
        (&mut self.turning).await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address)).await
    }

    /// A call that changes something, with the token, a second after the last one.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.pass(Span::from_secs(1));
        self.post_with(path, &format!("authorization: Bearer {TOKEN}\r\n{JSON}"), body).await
    }

    /// A call with headers of one's own, each ended by a line end.
    pub(crate) async fn post_with(&self, path: &str, headers: &str, body: &str) -> Answer {
        let host = self.address;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n");
        self.send(&format!("{head}{headers}\r\n{body}")).await
    }

    /// Sends a request as it is and reads the whole answer.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            // A server that refuses early may close before everything is sent.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            String::from_utf8(bytes).unwrap()
        };
        let text = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// Asks until the answer is as it should be, and lets time pass meanwhile.
    pub(crate) async fn until(&self, path: &str, done: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if done(&answer) {
                    return answer;
                }
                self.pass(Span::from_millis(100));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{path} never came to it"))
    }
}

/// The content type that bodies have.
pub(crate) const JSON: &str = "content-type: application/json\r\n";

fn releases() -> [(&'static str, &'static str, &'static str); 3] {
    [("app", "v1", "v2"), ("gated", "v1", "v2"), ("odd", "v1", NASTY)]
}

/// Each release observed, the first of each workload known good, an hour ago.
async fn fleet(store: &Store) -> Fleet {
    let mut fleet = Fleet::default();
    for (workload, good, bad) in releases() {
        let observed = |revision: &str, previous: Option<&str>| Event::ReleaseObserved {
            revision: revision.into(),
            image: None,
            previous: previous.map(RevisionId::new),
            by_rollback: false,
            older_faults: Vec::new(),
            instances: [].into(),
        };
        let since = Timestamp::from_millis(BEGIN - 7_200_000);
        let events =
            [observed(good, None), Event::KnownGood { revision: good.into(), since }, observed(bad, Some(good))];
        let mut state = WorkloadState::default();
        let mut batch = Batch::default();
        for event in events {
            let sequence = state.sequence + 1;
            let at = Timestamp::from_millis(BEGIN - 3_600_000 + i64::try_from(sequence).unwrap());
            let record = Record { workload: workload.into(), sequence, incident: None, at, event };
            state.apply(&record).unwrap();
            batch.records.push(record);
        }
        store.commit(batch).await.unwrap();
        let mode = if workload == "gated" { Mode::Approve } else { Mode::Enforce };
        let policy = WorkloadPolicy {
            id: workload.into(),
            mode,
            namespace: workload.to_owned(),
            ..policy(Strategy::Direct, &["a"])
        };
        fleet.add(Arc::new(policy), state);
    }
    fleet
}
