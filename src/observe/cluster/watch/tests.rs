use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use axum::body::Bytes;
use futures::stream;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;
use tower::service_fn;

use super::*;
use crate::cluster::facts::{Service, ServiceObject};
use crate::observe::cluster::collection::{Collection, Sight};

/// How long a watch that matters now stays open here.
const SHORTEST: Duration = Duration::from_millis(200);

/// Time between two bookmarks here: as much longer as a minute is than half of one.
const BOOKMARKS: Duration = Duration::from_millis(400);

/// An API server that answers as it was told.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<String>>>,
    /// What the next watches say before they end; the others stay open, and say nothing.
    says: Arc<Mutex<VecDeque<Says>>>,
    /// What each list shows, the last one from then on.
    there: Arc<Mutex<VecDeque<Listed>>>,
}

/// A version, and the colours that there are Services of.
type Listed = (u64, Vec<&'static str>);

enum Says {
    Events(Vec<Value>),
    /// So many bookmarks, as often as an API server sends them, and then nothing.
    Bookmarks(u32),
    Answer(u16, Value),
    /// That it can't, and only after a while.
    Late,
    /// Nothing, and nothing after it either.
    Silence,
}

/// How late: later than a watch has to be open.
const LATE: Duration = Duration::from_millis(1_100);

fn service(version: u64, colour: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "front", "uid": format!("u-{colour}"), "resourceVersion": version.to_string() },
        "spec": { "selector": { "colour": colour } },
    })
}

fn gone() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version",
    })
}

impl Server {
    fn answer(&self, uri: &str) -> (Duration, Response<axum::body::Body>) {
        let now = |answer| (Duration::ZERO, answer);
        self.asked.lock().unwrap().push(uri.to_owned());
        if !uri.contains("watch=true") {
            let mut there = self.there.lock().unwrap();
            let (version, colours) =
                if there.len() > 1 { there.pop_front() } else { there.front().cloned() }.unwrap_or_default();
            let items: Vec<Value> = colours.iter().map(|colour| service(version, colour)).collect();
            let list = json!({
                "apiVersion": "v1", "kind": "ServiceList",
                "metadata": { "resourceVersion": version.to_string() }, "items": items,
            });
            return now(Response::new(list.to_string().into()));
        }
        now(match self.says.lock().unwrap().pop_front() {
            Some(Says::Late) => {
                let mut answer = Response::new(axum::body::Body::empty());
                *answer.status_mut() = hyper::StatusCode::GATEWAY_TIMEOUT;
                return (LATE, answer);
            }
            Some(Says::Silence) => return (Duration::from_secs(3_600), Response::new(axum::body::Body::empty())),
            Some(Says::Answer(code, body)) => {
                let mut answer = Response::new(body.to_string().into());
                *answer.status_mut() = code.try_into().unwrap();
                answer
            }
            Some(Says::Events(events)) => {
                let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
                Response::new(lines.into())
            }
            Some(Says::Bookmarks(count)) => {
                let each = stream::iter(1..=count).then(|number| async move {
                    sleep(BOOKMARKS).await;
                    let metadata = json!({ "resourceVersion": (100 + number).to_string() });
                    let object = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata });
                    Ok(Bytes::from(format!("{}\n", json!({ "type": "BOOKMARK", "object": object }))))
                });
                Response::new(axum::body::Body::from_stream(each.chain(stream::pending::<Result<Bytes, Infallible>>())))
            }
            None => Response::new(axum::body::Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())),
        })
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let answer = service_fn(move |request: Request<Body>| {
            let (wait, answer) = server.answer(&request.uri().to_string());
            async move {
                sleep(wait).await;
                Ok::<_, Infallible>(answer)
            }
        });
        Client::new(answer, "prod")
    }

    fn watches(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().filter(|uri| uri.contains("watch=true")).cloned().collect()
    }

    fn lists(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|uri| !uri.contains("watch=true")).count()
    }
}

/// Watched with so many others beside it.
fn watched(server: &Server, others: usize) -> (Collection<Service>, Vec<Seat>, AbortOnDropHandle<()>) {
    let crowd = Crowd::no_shorter_than(SHORTEST);
    let seats = (0..others).map(|_| crowd.join()).collect();
    let (collection, _stop) = Collection::new("services".to_owned());
    let api = Api::<ServiceObject>::namespaced(server.client(), "prod");
    let source = Source { api, selector: None, courtesy: Courtesy::default(), crowd };
    let read = |object: ServiceObject| Service::try_from(object).ok();
    let work = keep(source, collection.kept(), read);
    (collection, seats, AbortOnDropHandle::new(tokio::spawn(work)))
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "not {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn colours(collection: &Collection<Service>) -> Vec<String> {
    let mut all: Vec<String> = collection.of("front").iter().map(|found| found.selector["colour"].clone()).collect();
    all.sort();
    all
}

#[test]
fn versions_that_are_numbers_are_compared() {
    assert!(is_older("99", "100") && !is_older("100", "100") && !is_older("101", "100"));
    assert!(!is_older("99", "") && !is_older("a", "b"));
}

#[tokio::test]
async fn a_silent_watch_is_begun_anew_as_soon_as_something_is_going_on() {
    let server = Server::default();
    let (collection, _others, _watch) = watched(&server, 40);
    until("watched", || server.watches().len() == 1).await;
    assert!(server.watches()[0].contains("timeoutSeconds=82"), "{:?}", server.watches());
    sleep(3 * SHORTEST).await;
    assert_eq!(server.watches().len(), 1, "it is left open");
    let heed = collection.heed();
    until("begun anew", || server.watches().len() == 2).await;
    assert!(server.watches()[1].split('&').any(|part| part == "timeoutSeconds=1"), "{:?}", server.watches());
    assert_eq!(server.lists(), 1, "it goes on where the one before was");
    drop(heed);
    assert_eq!(collection.sight(), Sight::Clear);
}

#[tokio::test]
async fn each_time_that_something_begins_to_go_on_a_watch_that_is_not_young_is_begun_anew() {
    let server = Server::default();
    let (collection, _others, _watch) = watched(&server, 0);
    until("watched", || server.watches().len() == 1).await;
    let first = collection.heed();
    sleep(SHORTEST / 2).await;
    let begun = Instant::now();
    let second = collection.heed();
    until("begun anew", || server.watches().len() == 2).await;
    assert!(begun.elapsed() < GRACE / 2, "{:?}", begun.elapsed());
    sleep(SHORTEST / 2).await;
    drop((first, second));
    sleep(SHORTEST / 2).await;
    assert_eq!(server.watches().len(), 2, "nothing goes on any more");
}

/// What was deleted while nobody watched is told by no event: only a new list says that it is gone.
#[tokio::test]
async fn what_can_not_be_gone_on_from_is_listed_anew_whatever_shape_says_so() {
    let in_stream = || Says::Events(vec![json!({ "type": "ERROR", "object": gone() })]);
    let unnamed = || {
        let mut status = gone();
        status["code"] = json!(500);
        Says::Events(vec![json!({ "type": "ERROR", "object": status })])
    };
    let shapes: [fn() -> Says; 3] = [|| Says::Answer(410, gone()), in_stream, unnamed];
    for shape in shapes {
        let server = Server::default();
        server.there.lock().unwrap().extend([(5, vec!["blue", "green"]), (9, vec!["green"])]);
        let event = Says::Events(vec![json!({ "type": "ADDED", "object": service(6, "red") })]);
        server.says.lock().unwrap().extend([event, shape()]);
        let (collection, _others, _watch) = watched(&server, 0);
        until("watched", || colours(&collection) == ["blue", "green", "red"]).await;
        until("listed anew", || colours(&collection) == ["green"]).await;
        until("watched from there", || server.watches().last().unwrap().contains("resourceVersion=9")).await;
        assert_eq!(server.lists(), 2);
    }
}

/// What was seen last stays as it is, however long nothing can be asked: it is not how things are.
#[tokio::test]
async fn a_watch_that_fails_slowly_each_time_that_it_is_begun_is_lost_sight() {
    let server = Server::default();
    server.there.lock().unwrap().push_back((5, vec!["green"]));
    server.says.lock().unwrap().extend([Says::Events(Vec::new()), Says::Late, Says::Late]);
    let (collection, _others, _watch) = watched(&server, 0);
    until("seen", || collection.sight() == Sight::Clear).await;
    until("lost", || matches!(collection.sight(), Sight::Lost(_))).await;
    assert_eq!((colours(&collection), server.lists()), (vec!["green".to_owned()], 1));
    until("answered again", || collection.sight() == Sight::Clear).await;
}

/// However long the first try takes: it counts from when the stream ended.
#[tokio::test]
async fn a_watch_that_is_slow_to_open_again_is_lost_sight_before_it_has_failed() {
    let server = Server::default();
    server.there.lock().unwrap().push_back((5, vec!["green"]));
    server.says.lock().unwrap().extend([Says::Events(Vec::new()), Says::Silence]);
    let (collection, _others, _watch) = watched(&server, 0);
    until("seen", || collection.sight() == Sight::Clear).await;
    let begun = Instant::now();
    until("lost", || matches!(collection.sight(), Sight::Lost(_))).await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    until("opened again", || collection.sight() == Sight::Clear).await;
}

#[tokio::test]
async fn lists_that_no_watch_can_go_on_from_come_less_and_less_often() {
    let server = Server::default();
    server.says.lock().unwrap().extend((0..4).map(|_| Says::Answer(410, gone())));
    let (_collection, _others, _watch) = watched(&server, 0);
    let begun = Instant::now();
    until("listed anew", || server.lists() == 4).await;
    // 0.2, 0.4 and 0.8 s.
    assert!(begun.elapsed() >= Duration::from_millis(1_400), "{:?}", begun.elapsed());
}

/// A list from a server that is behind shows what was long ago.
#[tokio::test]
async fn a_list_that_is_behind_is_not_believed() {
    let server = Server::default();
    server.there.lock().unwrap().extend([(9, vec!["green"]), (7, vec!["blue"])]);
    server.says.lock().unwrap().extend([Says::Events(Vec::new()), Says::Answer(410, gone())]);
    let (collection, _others, _watch) = watched(&server, 0);
    until("watched", || colours(&collection) == ["green"]).await;
    until("doubted", || matches!(collection.sight(), Sight::Lost(_))).await;
    assert_eq!(colours(&collection), ["green"]);
    *server.there.lock().unwrap() = [(12, vec!["red"])].into();
    until("believed", || colours(&collection) == ["red"]).await;
    assert_eq!(collection.sight(), Sight::Clear);
}

/// So many that each stays open for half an hour.
const MANY: usize = 1_000;

#[tokio::test]
async fn a_long_watch_on_which_bookmarks_came_is_begun_anew_once_none_comes_any_more() {
    let server = Server::default();
    server.says.lock().unwrap().push_back(Says::Bookmarks(5));
    let (collection, others, _watch) = watched(&server, MANY);
    until("watched", || server.watches().len() == 1).await;
    let (begun, silent) = (Instant::now(), others[0].silent());
    assert!(server.watches()[0].contains("timeoutSeconds=1800"), "{:?}", server.watches());
    until("begun anew", || server.watches().len() == 2).await;
    assert!(begun.elapsed() >= 5 * BOOKMARKS + silent, "{:?}", begun.elapsed());
    assert!(server.watches()[1].contains("resourceVersion=105"), "{:?}", server.watches());
    assert_eq!((server.lists(), collection.sight()), (1, Sight::Clear));
    sleep(2 * silent).await;
    assert_eq!(server.watches().len(), 2, "none is missed where none came");
}
