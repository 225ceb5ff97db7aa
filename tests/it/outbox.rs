//! The outbox drained to real servers: down, failing, refusing, redirecting, gone, and well again.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rollbackd::clock::Turns;
use rollbackd::config::model::{HttpOptions, Receiver, ReceiverKind, UrlSource};
use rollbackd::domain::id::{IncidentId, ReceiverName, RevisionId, WorkloadId};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::engine::ports::{Batch, Journal, Notice, Outbox, Pager};
use rollbackd::notify::{Clocks, Receivers, drain, pager};
use rollbackd::store::Store;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::alert::alert;

/// Bound on every wait; only a failing test comes near it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The wall clock, an hour ahead of the timeline that the tests begin with.
const WALL: Timestamp = Timestamp::from_millis(1_767_326_645_000);

/// What a server was sent.
#[derive(Debug)]
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A receiver's server: answers each request as `answer` says from its number (from 0) and id, and passes it on.
struct Server {
    url: String,
    requests: mpsc::UnboundedReceiver<Request>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(answer: impl Fn(usize, &str) -> Response + Clone + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answer).await
    }

    async fn start_at(address: &str, answer: impl Fn(usize, &str) -> Response + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
        let url = format!("http://{}/hook", listener.local_addr().expect("it is bound"));
        let (passed, requests) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicI64::new(0));
        let app = Router::new().fallback(move |method, uri, headers, body| {
            let request = Request { method, uri, headers, body };
            let number = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).expect("counts up from 0");
            let response = answer(number, request.header("webhook-id"));
            let _ = passed.send(request);
            async move { response }
        });
        let task =
            tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves until it is aborted") });
        Self { url, requests, task }
    }

    async fn next(&mut self) -> Request {
        timeout(PATIENCE, self.requests.recv()).await.expect("a request comes").expect("the server runs")
    }

    /// Ids of the next `n` requests.
    async fn ids(&mut self, n: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..n {
            ids.push(self.next().await.header("webhook-id").to_owned());
        }
        ids
    }

    fn has_more(&mut self) -> bool {
        self.requests.try_recv().is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A store, its drain, and a clock that moves when it is told to.
struct World {
    store: Store,
    now: Arc<AtomicI64>,
    receivers: watch::Sender<Receivers>,
    stop: CancellationToken,
    drain: JoinHandle<()>,
    sequence: u64,
    _dir: tempfile::TempDir,
}

impl World {
    fn start(receivers: Vec<Receiver>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(dir.path()).expect("a new journal opens");
        let now = Arc::new(AtomicI64::new(1_767_323_045_000));
        let (send, receive) = watch::channel(by_name(receivers));
        let stop = CancellationToken::new();
        let (outbox, time, token) = (store.clone(), now.clone(), stop.clone());
        let timeline = Arc::new(move || Timestamp::from_millis(time.load(Ordering::SeqCst)));
        let clocks = Clocks { timeline, wall: Arc::new(|| WALL) };
        let drain = tokio::spawn(async move { drain(&outbox, receive, clocks, Turns::default(), token).await });
        Self { store, now, receivers: send, stop, drain, sequence: 0, _dir: dir }
    }

    /// Commits a record with a message for these receivers.
    async fn tell(&mut self, incident: &str, position: u64, receivers: &[&str]) {
        self.sequence += 1;
        let record = Record {
            workload: WorkloadId::new("api"),
            sequence: self.sequence,
            incident: None,
            at: Timestamp::from_millis(self.now.load(Ordering::SeqCst)),
            event: Event::KnownGood { revision: RevisionId::new("v1"), since: Timestamp::default() },
        };
        let receivers = receivers.iter().map(ReceiverName::new).collect();
        let notices = vec![Notice { alert: alert(incident, position), receivers }];
        self.store.commit(Batch { records: vec![record], notices }).await.expect("it is committed");
    }

    /// Moves the clock, and wakes the drain by a message that is for nobody it knows.
    async fn advance(&mut self, by: Span) {
        self.now.fetch_add(by.as_millis().cast_signed(), Ordering::SeqCst);
        let incident = format!("wake-{}", self.sequence);
        self.tell(&incident, 1, &["nobody"]).await;
    }

    /// Waits until nothing more is due to a receiver now, and says when the next attempt is.
    async fn settled(&self, receiver: &str, attempts_due: impl Fn(Option<Span>) -> bool) -> Option<Span> {
        let receiver = ReceiverName::new(receiver);
        let waiting = async {
            loop {
                let now = Timestamp::from_millis(self.now.load(Ordering::SeqCst));
                let next = self.store.next_due(&receiver).await.expect("the outbox can be read");
                let wait = next.map(|at| at.since(now));
                if attempts_due(wait) {
                    return wait;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the attempt is settled")
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.drain).await.expect("the drain ends").expect("it did not panic");
    }
}

fn by_name(receivers: Vec<Receiver>) -> Receivers {
    Arc::new(receivers.into_iter().map(|receiver| (receiver.name.clone(), receiver)).collect::<BTreeMap<_, _>>())
}

fn webhook(name: &str, url: &str, secret_file: Option<&Path>) -> Receiver {
    let url = UrlSource::Plain(url.to_owned());
    let kind = ReceiverKind::Webhook { url, secret_file: secret_file.map(Path::to_owned) };
    Receiver { name: ReceiverName::new(name), kind, http: Arc::new(HttpOptions::default()) }
}

fn scheduled(wait: Option<Span>) -> bool {
    wait.is_some_and(|wait| wait > Span::ZERO)
}

fn ok() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// HMAC-SHA256 from RFC 2104's definition, with nothing of the code under test.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[tokio::test]
async fn a_message_arrives_signed_for_both_secrets_of_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let old = [7_u8; 32];
    std::fs::write(&file, format!("whsec_{}\nnew-and-raw\n", STANDARD.encode(old))).unwrap();
    let mut server = Server::start(|_, _| ok()).await;
    let mut world = World::start(vec![webhook("oncall", &server.url, Some(&file))]);
    world.tell("a", 1, &["oncall"]).await;
    let request = server.next().await;
    assert_eq!((&request.method, request.uri.path()), (&Method::POST, "/hook"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&request.body).unwrap(), serde_json::json!(alert("a", 1)));
    let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    // By the wall clock, whatever the daemon's own timeline says.
    assert_eq!((id, time), ("a_1", "1767326645"));
    let signed = [format!("{id}.{time}.").as_bytes(), &request.body].concat();
    let expected = [&old[..], b"new-and-raw"].map(|key| format!("v1,{}", STANDARD.encode(hmac(key, &signed))));
    assert_eq!(request.header("webhook-signature"), expected.join(" "));
    world.settled("oncall", |wait| wait.is_none()).await;
    world.end().await;
}

#[tokio::test]
async fn a_message_is_tried_to_the_end_of_the_schedule_under_one_id() {
    let refusing = |_, _: &str| (StatusCode::INTERNAL_SERVER_ERROR, "no\u{1b}[31m way").into_response();
    let mut server = Server::start(refusing).await;
    let mut world = World::start(vec![webhook("oncall", &server.url, None)]);
    world.tell("a", 1, &["oncall"]).await;
    let planned = [5, 30, 120, 300, 1800, 7200, 18_000, 36_000, 86_400];
    for seconds in planned {
        assert_eq!(server.ids(1).await, ["a_1"]);
        let wait = world.settled("oncall", scheduled).await.unwrap().as_secs_f64();
        let planned = f64::from(seconds);
        assert!((planned * 0.8..=planned * 1.2).contains(&wait), "{wait} s where {planned} s are planned");
        assert!(!server.has_more());
        world.advance(Span::from_millis((wait * 1000.0) as u64)).await;
    }
    assert_eq!(server.ids(1).await, ["a_1"]);
    world.settled("oncall", |wait| wait.is_none()).await;
    let parked = world.store.reader().parked(9).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].attempts, parked[0].why.as_str()), (10, "given up after 10 attempts: HTTP 500: no way"));
    world.end().await;
}

#[tokio::test]
async fn incidents_keep_their_order_and_do_not_hold_up_each_other() {
    // The first three attempts at the first message of `a` fail.
    let failures = Arc::new(AtomicI64::new(3));
    let answer = move |_, id: &str| {
        if id == "a_1" && failures.fetch_sub(1, Ordering::SeqCst) > 0 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        ok()
    };
    let mut server = Server::start(answer).await;
    let mut world = World::start(vec![webhook("oncall", &server.url, None)]);
    for (incident, position) in [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("b", 2)] {
        world.tell(incident, position, &["oncall"]).await;
    }
    let mut seen: HashMap<String, Vec<String>> = HashMap::new();
    let mut note = |id: String| seen.entry(id[..1].to_owned()).or_default().push(id);
    for id in server.ids(3).await {
        note(id);
    }
    for _ in 0..2 {
        world.settled("oncall", scheduled).await;
        world.advance(Span::from_secs(200)).await;
        note(server.ids(1).await.remove(0));
    }
    world.settled("oncall", scheduled).await;
    world.advance(Span::from_secs(200)).await;
    for id in server.ids(3).await {
        note(id);
    }
    world.settled("oncall", |wait| wait.is_none()).await;
    assert_eq!(seen["a"], ["a_1", "a_1", "a_1", "a_1", "a_2", "a_3"]);
    assert_eq!(seen["b"], ["b_1", "b_2"]);
    world.end().await;
}

/// Hours may lie before the next attempt by then.
#[tokio::test]
async fn a_receiver_that_is_back_gets_at_once_what_waits_for_it() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let answer = move |_, _: &str| match away.load(Ordering::SeqCst) {
        true => StatusCode::BAD_GATEWAY.into_response(),
        false => ok(),
    };
    let mut server = Server::start(answer).await;
    let mut world = World::start(vec![webhook("oncall", &server.url, None)]);
    world.tell("a", 1, &["oncall"]).await;
    for seconds in [6, 36, 144, 360] {
        assert_eq!(server.ids(1).await, ["a_1"]);
        world.settled("oncall", scheduled).await;
        world.advance(Span::from_secs(seconds)).await;
    }
    assert_eq!(server.ids(1).await, ["a_1"]);
    let wait = world.settled("oncall", scheduled).await.unwrap();
    assert!(wait > Span::from_secs(1_000), "{wait}");
    is_away.store(false, Ordering::SeqCst);
    // Another incident shows it.
    world.tell("b", 1, &["oncall"]).await;
    assert_eq!(server.ids(2).await, ["b_1", "a_1"]);
    world.settled("oncall", |wait| wait.is_none()).await;
    world.end().await;
}

#[tokio::test]
async fn each_answer_has_its_consequence() {
    let elsewhere = Server::start(|_, _| ok()).await;
    let location = elsewhere.url.clone();
    let answer = move |_, id: &str| match id {
        "busy_1" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "600")]).into_response(),
        "moved_1" => (StatusCode::FOUND, [("location", location.clone())]).into_response(),
        "bad_1" => StatusCode::BAD_REQUEST.into_response(),
        "gone_1" => StatusCode::GONE.into_response(),
        _ => ok(),
    };
    let mut server = Server::start(answer).await;
    let table = [
        ("busy", Some((600.0, 600.0))),
        ("moved", Some((4.0, 6.0))),
        ("bad", Some((4.0, 6.0))),
        ("gone", None),
        ("fine", None),
    ];
    for (incident, expected) in table {
        let mut world = World::start(vec![webhook("oncall", &server.url, None)]);
        world.tell(incident, 1, &["oncall"]).await;
        server.next().await;
        match expected {
            Some((least, most)) => {
                let wait = world.settled("oncall", scheduled).await.unwrap().as_secs_f64();
                assert!((least..=most).contains(&wait), "{incident}: {wait}");
            }
            None => {
                world.settled("oncall", |wait| wait.is_none()).await;
                let parked = world.store.reader().parked(9).await.unwrap();
                assert_eq!(parked.len(), usize::from(incident == "gone"), "{incident}");
            }
        }
        world.end().await;
    }
    let mut elsewhere = elsewhere;
    assert!(!elsewhere.has_more(), "a redirect was followed");
}

/// The receiver takes its time over one message, and takes the others meanwhile.
#[tokio::test]
async fn a_message_that_hangs_holds_up_none_of_other_incidents() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (passed, mut ids) = mpsc::unbounded_channel();
    let app = Router::new().fallback(move |headers: HeaderMap| {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        passed.send(id.clone()).unwrap();
        async move { if id == "slow_1" { std::future::pending().await } else { StatusCode::OK } }
    });
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let mut world = World::start(vec![webhook("oncall", &url, None)]);
    world.tell("slow", 1, &["oncall"]).await;
    assert_eq!(ids.recv().await.unwrap(), "slow_1");
    let incidents = ["a", "b", "c", "d", "e", "f"];
    for incident in incidents {
        world.tell(incident, 1, &["oncall"]).await;
    }
    let told = async {
        while world.store.reader().outbox().await.unwrap().waiting > 1 {
            tokio::task::yield_now().await
        }
    };
    let at_the_latest = rollbackd::notify::REQUEST_DEADLINE / 2;
    timeout(at_the_latest, told).await.expect("they are told while the first one is under way");
    let mut seen: Vec<String> = std::iter::from_fn(|| ids.try_recv().ok()).collect();
    seen.sort();
    assert_eq!(seen, incidents.map(|incident| format!("{incident}_1")));
    world.end().await;
    serving.abort();
}

#[tokio::test]
async fn receivers_that_are_down_or_silent_hold_up_no_other() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mut server = Server::start(|_, _| ok()).await;
    let mut world = World::start(vec![
        webhook("silent", &silent_url, None),
        webhook("down", &format!("http://{address}/hook"), None),
        webhook("well", &server.url, None),
    ]);
    world.tell("a", 1, &["silent", "down", "well"]).await;
    world.tell("a", 2, &["silent", "down", "well"]).await;
    assert_eq!(server.ids(2).await, ["a_1", "a_2"]);
    world.settled("down", scheduled).await;
    world.settled("well", |wait| wait.is_none()).await;
    assert_eq!(world.store.reader().outbox().await.unwrap().waiting, 4);
    // The one that was down comes back at its address.
    let mut back = Server::start_at(&address.to_string(), |_, _| ok()).await;
    world.advance(Span::from_secs(10)).await;
    assert_eq!(back.ids(2).await, ["a_1", "a_2"]);
    // An attempt is under way to the silent one; the word to stop is heard all the same.
    world.end().await;
}

#[tokio::test]
async fn what_was_not_sent_is_sent_after_a_restart() {
    let mut world = World::start(Vec::new());
    world.stop.cancel();
    world.tell("a", 1, &["oncall"]).await;
    let mut server = Server::start(|_, _| ok()).await;
    let (outbox, stop) = (world.store.clone(), CancellationToken::new());
    let (_keep, receivers) = watch::channel(by_name(vec![webhook("oncall", &server.url, None)]));
    let (token, clocks) = (stop.clone(), Clocks { timeline: Arc::new(|| WALL), wall: Arc::new(|| WALL) });
    let second = tokio::spawn(async move { drain(&outbox, receivers, clocks, Turns::default(), token).await });
    assert_eq!(server.ids(1).await, ["a_1"]);
    stop.cancel();
    timeout(PATIENCE, second).await.unwrap().unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_new_policy_brings_new_receivers_which_get_what_waited_for_old_ones() {
    let failing = Server::start(|_, _| StatusCode::BAD_GATEWAY.into_response()).await;
    let mut server = Server::start(|_, _| ok()).await;
    let mut world = World::start(vec![webhook("old", &failing.url, None)]);
    world.tell("a", 1, &["old"]).await;
    world.settled("old", scheduled).await;
    world.receivers.send(by_name(vec![webhook("new", &server.url, None)])).unwrap();
    world.settled("old", |wait| wait.is_none()).await;
    assert_eq!(world.store.reader().parked(9).await.unwrap(), [], "what goes to another one is not given up");
    world.tell("a", 2, &["new"]).await;
    assert_eq!(server.ids(2).await, ["a_1", "a_2"]);
    world.end().await;
}

#[tokio::test]
async fn what_waits_while_there_is_no_receiver_goes_to_the_one_that_is_back() {
    let failing = Server::start(|_, _| StatusCode::BAD_GATEWAY.into_response()).await;
    let mut server = Server::start(|_, _| ok()).await;
    let mut world = World::start(vec![webhook("oncall", &failing.url, None)]);
    world.tell("a", 1, &["oncall"]).await;
    world.settled("oncall", scheduled).await;
    world.receivers.send(by_name(Vec::new())).unwrap();
    let told = async |world: &World| world.store.reader().undelivered().await.unwrap()[0].why.clone();
    let nobody = async {
        while told(&world).await != "there is no receiver in the policy" {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, nobody).await.expect("it is told why it waits");
    world.receivers.send(by_name(vec![webhook("oncall", &server.url, None)])).unwrap();
    assert_eq!(server.ids(1).await, ["a_1"]);
    world.settled("oncall", |wait| wait.is_none()).await;
    assert_eq!(world.store.reader().parked(9).await.unwrap(), []);
    world.end().await;
}

#[tokio::test]
async fn people_are_told_directly_where_the_outbox_is_of_no_use() {
    let mut server = Server::start(|_, _| ok()).await;
    let (_keep, receivers) = watch::channel(by_name(vec![webhook("oncall", &server.url, None)]));
    let stop = CancellationToken::new();
    let (direct, task) = pager(receivers, Arc::new(|| WALL), Turns::default(), stop.clone());
    let task = tokio::spawn(task);
    let mut message = alert("rollbackd-journal", 1);
    message.incident = IncidentId::new("rollbackd-journal");
    direct.page(Notice { alert: message, receivers: vec!["unknown".into(), "oncall".into()] });
    assert_eq!(server.ids(1).await, ["rollbackd-journal_1"]);
    stop.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

/// Were the first one tried again after the second, it would open anew what is over.
#[tokio::test]
async fn what_is_over_is_not_told_any_more() {
    let answer = |number, _: &str| if number < 1 { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { ok() };
    let mut server = Server::start(answer).await;
    let (_keep, receivers) = watch::channel(by_name(vec![webhook("oncall", &server.url, None)]));
    let stop = CancellationToken::new();
    let (direct, task) = pager(receivers, Arc::new(|| WALL), Turns::default(), stop.clone());
    let task = tokio::spawn(task);
    let [trouble, over] = [1, 2].map(|number| Notice { alert: alert("a", number), receivers: vec!["oncall".into()] });
    direct.page(trouble);
    assert_eq!(server.ids(1).await, ["a_1"], "it was not taken");
    direct.page(over);
    assert_eq!(server.ids(1).await, ["a_2"]);
    // The first one's turn to be tried again comes and goes.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!server.has_more());
    // Told to stop, what waits is told once.
    direct.page(Notice { alert: alert("a", 3), receivers: vec!["oncall".into()] });
    stop.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
    assert_eq!(server.ids(1).await, ["a_3"]);
}

/// More than a few at once, and the receiver is not up yet: each is told in the end, under its own id.
#[tokio::test]
async fn who_can_not_be_told_directly_at_once_is_told_soon() {
    let answer = |number, _: &str| if number < 3 { StatusCode::SERVICE_UNAVAILABLE.into_response() } else { ok() };
    let mut server = Server::start(answer).await;
    let (_keep, receivers) = watch::channel(by_name(vec![webhook("oncall", &server.url, None)]));
    let stop = CancellationToken::new();
    let turns = Turns::default();
    let (direct, task) = pager(receivers, Arc::new(|| WALL), turns.clone(), stop.clone());
    let task = tokio::spawn(task);
    for number in 1..=40 {
        direct
            .page(Notice { alert: alert(&format!("rollbackd-records-{number}"), 1), receivers: vec!["oncall".into()] });
    }
    let mut ids = server.ids(43).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40);
    assert!(turns.count() > 0, "its loop is seen to turn");
    stop.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}
