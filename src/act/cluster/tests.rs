use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::Method;
use serde_json::{Value, json};

use super::server::Server;
use super::*;
use crate::cluster::settings::{Content, Keyring};
use crate::domain::policy::{GitopsTool, KubernetesSubject, ObjectKind};
use crate::domain::response::plan::{Aspect, StepKind};
use crate::domain::settings::{ContentId, SettingKind};
use crate::engine::ports::{JournalError, Shelf};

const LIMIT: Duration = Duration::from_secs(20);

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/prod/deployments/app";

const MAP: &str = "/api/v1/namespaces/prod/configmaps/m";

/// What was kept, by what stands for it.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<ContentId, Vec<u8>>>);

impl Shelf for Kept {
    fn put(
        &self,
        _workload: WorkloadId,
        contents: BTreeMap<ContentId, Vec<u8>>,
        _needed: Option<std::collections::BTreeSet<ContentId>>,
    ) -> BoxFuture<'_, Result<(), JournalError>> {
        self.0.lock().unwrap().extend(contents);
        async { Ok(()) }.boxed()
    }

    fn find(&self, _workload: WorkloadId, id: ContentId) -> BoxFuture<'_, Result<Option<Vec<u8>>, JournalError>> {
        let found = self.0.lock().unwrap().get(&id).cloned();
        async { Ok(found) }.boxed()
    }
}

fn object(kind: ObjectKind) -> ClusterObject {
    let (namespace, name, uid) = ("prod".to_owned(), "app".to_owned(), "u1".to_owned());
    ClusterObject { context: None, namespace, kind, name, uid }
}

fn subject(name: &str) -> KubernetesSubject {
    KubernetesSubject::Object { kind: ObjectKind::Deployment, name: name.to_owned() }
}

fn owned(name: &str, owner: &str) -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "X", "name": "app", "uid": owner, "controller": true });
    json!({ "name": name, "namespace": "prod", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "ownerReferences": [owner] })
}

/// A Deployment at a release, and what keeps two of them.
fn deployment(image: &str) -> [(&'static str, Value); 3] {
    let template = |image: &str| json!({ "spec": { "containers": [{ "name": "app", "image": image }] } });
    let meta = json!({ "name": "app", "namespace": "prod", "uid": "u1", "generation": 3 });
    let set = |name: &str, image: &str| {
        json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": owned(name, "u1"),
                "spec": { "template": template(image) } })
    };
    let whole = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
                        "spec": { "replicas": 2, "template": template(image) } });
    [
        (DEPLOYMENT, whole),
        ("/apis/apps/v1/namespaces/prod/replicasets/app-v1", set("app-v1", "v1")),
        ("/apis/apps/v1/namespaces/prod/replicasets/app-v2", set("app-v2", "v2")),
    ]
}

fn content(text: &str) -> Content {
    Content { data: [("a".to_owned(), text.to_owned())].into(), ..Content::default() }
}

fn map(text: &str) -> (&'static str, Value) {
    let meta = json!({ "name": "m", "namespace": "prod", "uid": "m1", "resourceVersion": "7" });
    (MAP, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": { "a": text } }))
}

/// Puts what said "2" back to "1", unless the workload is at v1.
async fn put_back(server: &Server, kept: &Kept) -> Outcome {
    let clients = Clients::of(server.client());
    put_back_by(Way { clients: &clients, is_held: &|| false }, kept).await
}

async fn put_back_by(way: Way<'_>, kept: &Kept) -> Outcome {
    kept.0.lock().unwrap().insert(content("1").id(), content("1").encode());
    let keyring = Keyring::default();
    let store = Store { shelf: kept, keyring: &keyring };
    let setting = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
    let what = Restored {
        workload: &"app".into(),
        object: &object(ObjectKind::Deployment),
        setting: &setting,
        expect: Some(&content("2").id()),
        content: &content("1").id(),
        release: &"v1".into(),
    };
    restore_setting(way, Some(store), what, Some(&"v1".into()), LIMIT).await
}

#[tokio::test]
async fn what_belongs_to_the_template_that_is_there_is_not_moved() {
    let (at_v1, at_v2) = (Server::with(deployment("v1")), Server::with(deployment("v2").into_iter().chain([map("2")])));
    assert!(matches!(put_back(&at_v1, &Kept::default()).await, Outcome::Conflict(why) if why.contains("is at v1")));
    assert_eq!(put_back(&at_v2, &Kept::default()).await, Outcome::Applied);
    assert_eq!((at_v1.writes(), at_v2.at(MAP, "/data/a")), (Vec::new(), json!("1")));
    // What is not kept any more is not in place.
    let unkept = Server::with(deployment("v1").into_iter().take(1).chain([map("2")]));
    assert_eq!(put_back(&unkept, &Kept::default()).await, Outcome::Applied);
    let gone = Server::with([map("2")]);
    assert!(matches!(put_back(&gone, &Kept::default()).await, Outcome::Conflict(_)));
}

#[tokio::test]
async fn what_is_written_over_is_kept_first() {
    let server = Server::with(deployment("v2").into_iter().chain([map("2")]));
    let kept = Arc::new(Kept::default());
    let is_kept_by_then = Arc::new(AtomicBool::new(false));
    let (shelf, is_kept) = (Arc::clone(&kept), Arc::clone(&is_kept_by_then));
    server.after_each_write(move |_, _| {
        is_kept.store(shelf.0.lock().unwrap().contains_key(&content("2").id()), Ordering::SeqCst);
    });
    assert_eq!(put_back(&server, &kept).await, Outcome::Applied);
    assert!(is_kept_by_then.load(Ordering::SeqCst));
    let bytes = kept.0.lock().unwrap().get(&content("2").id()).cloned().unwrap();
    assert_eq!(Content::decode(&bytes, &content("2").id()), Ok(content("2")));
}

const SET: &str = "/apis/apps/v1/namespaces/prod/statefulsets/app";

const STUCK: [&str; 2] = ["/api/v1/namespaces/prod/pods/app-0", "/api/v1/namespaces/prod/pods/app-1"];

fn stuck_pods() -> [(&'static str, Value); 2] {
    STUCK.map(|path| {
        let mut meta = owned(path.rsplit('/').next().unwrap(), "u1");
        meta["labels"] = json!({ "controller-revision-hash": "app-v2" });
        (path, json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": { "phase": "Pending" } }))
    })
}

/// A StatefulSet at a release, what keeps two of them, and pods that it waits for.
fn stuck_at(image: &str) -> impl Iterator<Item = (&'static str, Value)> {
    let template = |image: &str| json!({ "spec": { "containers": [{ "name": "app", "image": image }] } });
    let revision = |name: &str, image: &str| {
        json!({ "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": owned(name, "u1"),
                "data": { "spec": { "template": template(image) } } })
    };
    let meta = json!({ "name": "app", "namespace": "prod", "uid": "u1", "generation": 3 });
    let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta,
                      "spec": { "template": template(image) } });
    let kept = [
        ("/apis/apps/v1/namespaces/prod/controllerrevisions/app-v1", revision("app-v1", "v1")),
        ("/apis/apps/v1/namespaces/prod/controllerrevisions/app-v2", revision("app-v2", "v2")),
    ];
    [(SET, set)].into_iter().chain(kept).chain(stuck_pods())
}

async fn deleted(server: &Server, is_held: IsHeld<'_>) -> Outcome {
    let clients = Clients::of(server.client());
    let way = Way { clients: &clients, is_held };
    delete_stuck(way, &object(ObjectKind::StatefulSet), &"v2".into(), Some(&"v1".into()), LIMIT).await
}

#[tokio::test]
async fn stuck_pods_are_deleted_until_somebody_holds_the_workload() {
    let deletions = STUCK.map(|path| format!("DELETE {path}"));
    let server = Server::with(stuck_at("v1"));
    assert_eq!(deleted(&server, &|| false).await, Outcome::Applied);
    assert_eq!(server.writes(), deletions);
    let server = Server::with(stuck_at("v1"));
    let is_held = Arc::new(AtomicBool::new(false));
    let pause = Arc::clone(&is_held);
    server.after_each_write(move |_, _| pause.store(true, Ordering::SeqCst));
    let outcome = deleted(&server, &|| is_held.load(Ordering::SeqCst)).await;
    assert!(matches!(&outcome, Outcome::Stopped(why) if why.ends_with("before the next of its pods was deleted")));
    assert_eq!(server.writes(), deletions[..1]);
}

#[tokio::test]
async fn no_pod_is_deleted_once_the_workload_is_not_at_the_goal_any_more() {
    let server = Server::with(stuck_at("v1"));
    server.after_each_write(|objects, _| {
        objects.get_mut(SET).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v3");
    });
    let outcome = deleted(&server, &|| false).await;
    assert!(matches!(&outcome, Outcome::Conflict(why) if why.contains("not at v1")), "{outcome:?}");
    assert_eq!(server.writes().len(), 1);
}

#[tokio::test]
async fn a_pod_that_can_not_be_deleted_for_a_moment_is_deleted_a_moment_later() {
    let server = Server::with(stuck_at("v1"));
    server.fail(Method::DELETE, 429);
    assert_eq!(deleted(&server, &|| false).await, Outcome::Applied);
    assert_eq!(server.writes().len(), 2);
    let server = Server::with(stuck_at("v1"));
    server.fail(Method::DELETE, 403);
    assert!(matches!(deleted(&server, &|| false).await, Outcome::Denied(_)));
}

#[tokio::test]
async fn the_next_pod_waits_until_the_one_before_is_seen_to_be_gone() {
    let server = Server::with(stuck_pods());
    server.after_each_write(|objects, answers| {
        let (path, mut going) = stuck_pods()[0].clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        objects.insert(path.to_owned(), going);
        answers.push((Method::GET, 500));
    });
    let clients = Clients::of(server.client());
    let way = Way { clients: &clients, is_held: &|| false };
    let (object, limit) = (object(ObjectKind::StatefulSet), Duration::from_secs(2));
    let outcome = delete_stuck(way, &object, &"v2".into(), None, limit).await;
    assert!(matches!(&outcome, Outcome::TimedOut(why) if why.contains("pod app-0")), "{outcome:?}");
    assert_eq!(server.writes().len(), 1);
}

const FRONT: &str = "/api/v1/namespaces/prod/services/front";

#[tokio::test]
async fn no_traffic_is_switched_once_somebody_holds_the_workload() {
    let colours = |colour: &str| [("colour".to_owned(), colour.to_owned())].into();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "front", "uid": "s1", "resourceVersion": "7" },
        "spec": { "selector": { "colour": "green" } },
    });
    let mut meta = owned("pod", "uid-app-v1");
    meta["labels"] = json!({ "pod-template-hash": "v1" });
    let ready = json!([{ "type": "Ready", "status": "True" }]);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": { "conditions": ready } });
    let objects = deployment("v1").into_iter().chain([(FRONT, service), ("/api/v1/namespaces/prod/pods/pod", pod)]);
    let server = Server::with(objects);
    let clients = Clients::of(server.client());
    let pin = Pin { name: "front".to_owned(), uid: "s1".to_owned() };
    let switch = Switch { service: pin, before: colours("green"), after: colours("blue") };
    let (object, looks) = (object(ObjectKind::Deployment), AtomicBool::new(false));
    // Not before it begins.
    let is_held = || looks.swap(true, Ordering::SeqCst);
    let way = Way { clients: &clients, is_held: &is_held };
    assert!(matches!(switch_service(way, &object, &"v1".into(), &switch, LIMIT).await, Outcome::Stopped(_)));
    assert_eq!(server.writes(), Vec::<String>::new());
    let way = Way { clients: &clients, is_held: &|| false };
    assert_eq!(switch_service(way, &object, &"v1".into(), &switch, LIMIT).await, Outcome::Applied);
    assert_eq!(server.at(FRONT, "/spec/selector/colour"), "blue");
}

const OWNER: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/prod/kustomizations/shop";

/// Each write that a workload's own objects may get, where somebody holds it once the pass has begun, or nobody does.
async fn written(which: usize, server: &Server, is_held: bool) -> Outcome {
    let (clients, looks) = (Clients::of(server.client()), AtomicBool::new(false));
    // Not before it begins.
    let is_held = || is_held && looks.swap(true, Ordering::SeqCst);
    let way = Way { clients: &clients, is_held: &is_held };
    let (object, v1, v2) = (object(ObjectKind::Deployment), "v1".into(), "v2".into());
    match which {
        0 => {
            let (tool, namespace, name) = (GitopsTool::FluxKustomization, "prod".to_owned(), "shop".to_owned());
            let owner = OwnerObject { context: None, tool, namespace, name };
            settle_owner(way, By { home: None, workload: &"app".into() }, &owner, Wish::Paused { anew: true }, LIMIT)
                .await
        }
        1 => put_back_by(way, &Kept::default()).await,
        2 => {
            let source = Pin { name: "app-v1".to_owned(), uid: "uid-app-v1".to_owned() };
            restore_template(way, &object, &v2, &source, LIMIT).await
        }
        3 => scale(way, &object, Some(v1), Number { replicas: 0, only_from: None }, LIMIT).await,
        _ => delete_canary(way, &object, &v1, LIMIT).await,
    }
}

#[tokio::test]
async fn nothing_is_written_once_somebody_holds_the_workload() {
    let meta = json!({ "name": "shop", "namespace": "prod", "uid": "k1", "resourceVersion": "7" });
    let api = "kustomize.toolkit.fluxcd.io/v1";
    let owner = (OWNER, json!({ "apiVersion": api, "kind": "Kustomization", "metadata": meta, "spec": {} }));
    let unmapped = Server::with(deployment("v2"));
    let server = Server::with(deployment("v2").into_iter().chain([map("2"), owner]));
    let mut all = Vec::new();
    for (which, server) in [(0, &server), (1, &unmapped), (1, &server), (2, &server), (3, &server), (4, &server)] {
        let before = server.writes().len();
        let outcome = written(which, server, true).await;
        let is_stopped = matches!(&outcome, Outcome::Stopped(why) if why.ends_with("before it was written to"));
        all.push(is_stopped && server.writes().len() == before);
        all.push(written(which, server, false).await == Outcome::Applied);
    }
    assert_eq!(all, [true; 12]);
}

/// And whether it was is not known.
#[tokio::test]
async fn what_somebody_holds_after_a_write_without_an_answer_may_have_been_written() {
    let server = Server::with(deployment("v2"));
    server.after_each_write(|_, answers| answers.push((Method::GET, 500)));
    server.lose_answer(Method::PATCH);
    let (clients, is_held) = (Clients::of(server.client()), || !server.writes().is_empty());
    let way = Way { clients: &clients, is_held: &is_held };
    let source = Pin { name: "app-v1".to_owned(), uid: "uid-app-v1".to_owned() };
    let outcome = restore_template(way, &object(ObjectKind::Deployment), &"v2".into(), &source, LIMIT).await;
    assert!(matches!(&outcome, Outcome::Stopped(why) if why.contains("which it may have been")), "{outcome:?}");
}

#[tokio::test]
async fn what_is_back_already_needs_nothing_of_the_release_before() {
    let server = Server::with(deployment("v1").into_iter().take(2));
    assert_eq!(written(2, &server, false).await, Outcome::AlreadyInEffect);
    let elsewhere = Server::with(deployment("v3").into_iter().take(2));
    assert!(matches!(written(2, &elsewhere, false).await, Outcome::Denied(why) if why.contains("app-v2")));
}

/// Which moves no generation.
#[tokio::test]
async fn who_applies_labels_meanwhile_makes_the_write_miss_once() {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let applied = |labels: Value| {
        let template = json!({ "spec": { "containers": [{ "name": "app", "image": "v2" }] } });
        json!({ "metadata": { "labels": labels }, "spec": { "template": template } }).to_string()
    };
    let mut objects = deployment("v2");
    objects[0].1["metadata"]["annotations"] = json!({ LAST_APPLIED: applied(json!({})) });
    let server = Server::with(objects);
    let mut is_labelled = false;
    server.before_each_write(move |objects| {
        let deployment = objects.get_mut(DEPLOYMENT).unwrap();
        if !std::mem::replace(&mut is_labelled, true) {
            deployment["metadata"]["annotations"][LAST_APPLIED] = json!(applied(json!({ "team": "a" })));
        }
    });
    assert_eq!(written(2, &server, false).await, Outcome::Applied);
    let remembered = server.at(DEPLOYMENT, "/metadata/annotations");
    let remembered: Value = serde_json::from_str(remembered[LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(remembered["metadata"]["labels"], json!({ "team": "a" }));
    assert_eq!(remembered["spec"]["template"]["spec"]["containers"][0]["image"], "v1");
}

/// A server whose one who applies the Deployment loses its template with the write, which `then` goes on from.
fn applied_by_ci(then: fn(&mut Vec<(Method, u16)>)) -> Server {
    let of = |manager: &str, operation: &str| {
        let fields = json!({ "f:spec": { "f:template": { "f:spec": { "f:image": {} } } } });
        json!({ "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": fields })
    };
    let mut objects = deployment("v2");
    objects[0].1["metadata"]["managedFields"] = json!([of("ci", "Apply")]);
    objects[0].1["metadata"]["resourceVersion"] = json!("7");
    let server = Server::with(objects);
    let mut is_written = false;
    server.after_each_write(move |objects, answers| {
        if !std::mem::replace(&mut is_written, true) {
            objects.get_mut(DEPLOYMENT).unwrap()["metadata"]["managedFields"] = json!([of("rollbackd", "Update")]);
            then(answers);
        }
    });
    server
}

#[tokio::test]
async fn what_was_written_without_an_answer_is_handed_back_by_the_pass_that_finds_it() {
    // Nor does it say how the write ended.
    let server = applied_by_ci(|answers| answers.push((Method::GET, 500)));
    server.lose_answer(Method::PATCH);
    assert_eq!(written(2, &server, false).await, Outcome::Applied);
    assert_eq!(server.at(DEPLOYMENT, "/metadata/managedFields/0/manager"), "ci");
}

#[tokio::test]
async fn what_misses_is_handed_back_at_once_and_what_is_refused_is_left() {
    let manager = async |then: fn(&mut Vec<(Method, u16)>)| {
        let server = applied_by_ci(then);
        assert_eq!(written(2, &server, false).await, Outcome::Applied);
        server.at(DEPLOYMENT, "/metadata/managedFields/0/manager")
    };
    assert_eq!(manager(|answers| answers.push((Method::PATCH, 409))).await, "ci");
    assert_eq!(manager(|answers| answers.push((Method::PATCH, 422))).await, "ci");
    assert_eq!(manager(|answers| answers.push((Method::PATCH, 429))).await, "rollbackd");
    assert_eq!(manager(|answers| answers.push((Method::PATCH, 403))).await, "rollbackd");
}

/// The one write was sent before that.
#[tokio::test]
async fn nothing_is_handed_back_once_somebody_holds_the_workload() {
    let server = applied_by_ci(|_| {});
    let (clients, is_held) = (Clients::of(server.client()), || !server.writes().is_empty());
    let way = Way { clients: &clients, is_held: &is_held };
    let source = Pin { name: "app-v1".to_owned(), uid: "uid-app-v1".to_owned() };
    let object = object(ObjectKind::Deployment);
    assert_eq!(restore_template(way, &object, &"v2".into(), &source, LIMIT).await, Outcome::Applied);
    assert_eq!(server.writes().len(), 1, "{:?}", server.writes());
    assert_eq!(server.at(DEPLOYMENT, "/metadata/managedFields/0/manager"), "rollbackd");
}

#[tokio::test]
async fn what_was_not_answered_may_still_come() {
    let late = ask::answer(std::future::pending::<Result<(), _>>()).await.unwrap_err();
    assert!(matches!(write::refused(&late), Outcome::TimedOut(why) if why.contains("within 5 s")));
    assert!(!write::is_refusal(&late));
}

#[tokio::test]
async fn a_lost_answer_takes_only_its_own_time() {
    let [read, write, delete] = [Method::GET, Method::PATCH, Method::DELETE].map(|method| async move {
        let server = match method {
            Method::DELETE => Server::with(stuck_at("v1")),
            _ => Server::with(deployment("v2")),
        };
        server.lose_answer(method.clone());
        let outcome = match method {
            Method::DELETE => deleted(&server, &|| false).await,
            _ => written(2, &server, false).await,
        };
        (outcome, server.writes().len())
    });
    let (read, write, delete) = tokio::join!(read, write, delete);
    assert_eq!([read, write, delete], [(Outcome::Applied, 1), (Outcome::Applied, 1), (Outcome::Applied, 2)]);
}

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// What stands in the way of that many pods, where a quota has room for one more than the two that there are.
async fn in_the_way_of(replicas: u32, only_from: Option<u32>) -> Vec<String> {
    let allowed = json!({ "metadata": {}, "spec": {}, "status": { "allowed": true } });
    let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "3" } },
                        "status": { "hard": { "pods": "3" }, "used": { "pods": "2" } } });
    let quota = ("/api/v1/namespaces/prod/resourcequotas/tight", quota);
    let server = Server::with(deployment("v1").into_iter().chain([(REVIEWS, allowed), quota]));
    let object = object(ObjectKind::Deployment);
    let step = StepKind::Scale { object, expect: "v1".into(), replicas, only_from, at_any: false };
    let found = findings(&Clients::of(server.client()), None, (&"app".into(), &subject("app")), &[&step]).await;
    assert!(found.iter().all(|found| found.aspect == Aspect::Quota && !found.passing), "{found:#?}");
    found.into_iter().map(|found| found.problem).collect()
}

#[tokio::test]
async fn more_pods_than_there_is_room_for_are_not_begun() {
    let lack = "quota tight leaves 1 of pods, and scaling deployment prod/app to 4 takes 2";
    assert_eq!(in_the_way_of(4, None).await, [lack]);
    for (replicas, only_from) in [(3, None), (2, None), (0, None), (4, Some(0)), (4, Some(2))] {
        assert_eq!(in_the_way_of(replicas, only_from).await, Vec::<String>::new(), "{replicas} from {only_from:?}");
    }
}

/// Puts the template of v1 back where it is in place.
fn again() -> StepKind {
    let source = Pin { name: "app-v1".to_owned(), uid: "uid-app-v1".to_owned() };
    StepKind::RestoreTemplate { object: object(ObjectKind::Deployment), expect: "v1".into(), to: "v1".into(), source }
}

#[tokio::test]
async fn what_is_in_place_is_put_back_as_a_trial_and_nothing_is_written() {
    let tried = async |server: &Server| {
        let found = findings(&Clients::of(server.client()), None, (&"app".into(), &subject("app")), &[&again()]).await;
        assert_eq!(server.writes().iter().filter(|write| !write.contains(REVIEWS)).count(), 0);
        found.into_iter().map(|found| (found.aspect, found.problem)).collect::<Vec<_>>()
    };
    let allowed = || (REVIEWS, json!({ "metadata": {}, "spec": {}, "status": { "allowed": true } }));
    assert_eq!(tried(&Server::with(deployment("v1"))).await, []);
    // Before and after it is asked for rights.
    let refusing = Server::with(deployment("v1").into_iter().chain([allowed()]));
    refusing.fail(Method::PATCH, 422);
    refusing.fail(Method::PATCH, 422);
    let found = tried(&refusing).await;
    assert!(matches!(&found[..], [(Aspect::Place, why)] if why.contains("as told")), "{found:?}");
    let found = tried(&Server::with(deployment("v2").into_iter().chain([allowed()]))).await;
    assert!(matches!(&found[..], [(Aspect::Place, why)] if why.contains("has another template")), "{found:?}");
}

#[tokio::test]
async fn for_another_rollout_of_what_is_in_place_one_pod_more_must_find_room() {
    let found = async |used: &str| {
        let quota = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "pods": "3" } },
                            "status": { "hard": { "pods": "3" }, "used": { "pods": used } } });
        let mut all = deployment("v1");
        all[0].1["spec"]["strategy"] = json!({ "type": "RollingUpdate" });
        let server = Server::with(all.into_iter().chain([("/api/v1/namespaces/prod/resourcequotas/tight", quota)]));
        let found = findings(&Clients::of(server.client()), None, (&"app".into(), &subject("app")), &[&again()]).await;
        found.into_iter().map(|found| (found.aspect, found.problem)).collect::<Vec<_>>()
    };
    assert_eq!(found("2").await, []);
    let lack = "quota tight leaves 0 of pods, and a rollout of what is in place takes 1";
    assert_eq!(found("3").await, [(Aspect::Quota, lack.to_owned())]);
}

#[tokio::test]
async fn a_quota_that_can_not_be_read_holds_nothing_up() {
    let allowed = json!({ "metadata": {}, "spec": {}, "status": { "allowed": true } });
    // Instead of a list of them.
    let none = ("/api/v1/namespaces/prod/resourcequotas", json!("nothing that can be read"));
    let server = Server::with(deployment("v1").into_iter().chain([(REVIEWS, allowed), none]));
    let object = object(ObjectKind::Deployment);
    let step = StepKind::Scale { object, expect: "v1".into(), replicas: 4, only_from: None, at_any: false };
    assert_eq!(findings(&Clients::of(server.client()), None, (&"app".into(), &subject("app")), &[&step]).await, []);
}

/// What stands in the way of putting a setting back beside these workloads, each of which names it.
async fn in_the_way_beside(subject: &KubernetesSubject, says: &str, others: &[&'static str]) -> Vec<String> {
    let naming = |path: &&'static str| {
        let source = json!([{ "configMapRef": { "name": "m" } }]);
        let template = json!({ "spec": { "containers": [{ "name": "app", "image": "v1", "envFrom": source }] } });
        let name = path.rsplit('/').next().unwrap();
        let other = json!({ "apiVersion": "apps/v1", "kind": "X", "metadata": { "name": name, "namespace": "prod" },
                            "spec": { "template": template } });
        (*path, other)
    };
    let allowed = json!({ "metadata": {}, "spec": {}, "status": { "allowed": true } });
    let server = Server::with(
        deployment("v2").into_iter().chain([(REVIEWS, allowed), map(says)]).chain(others.iter().map(naming)),
    );
    let (kept, keyring) = (Kept::default(), Keyring::default());
    kept.0.lock().unwrap().insert(content("1").id(), content("1").encode());
    let step = StepKind::RestoreSetting {
        object: object(ObjectKind::Deployment),
        setting: Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() },
        expect: Some(content("2").id()),
        content: content("1").id(),
        release: "v1".into(),
        unless_at: None,
    };
    let (clients, store) = (Clients::of(server.client()), Store { shelf: &kept, keyring: &keyring });
    let found = findings(&clients, Some(store), (&"app".into(), subject), &[&step]).await;
    assert!(found.iter().all(|found| found.aspect == Aspect::Settings && !found.passing), "{found:#?}");
    found.into_iter().map(|found| found.problem).collect()
}

#[tokio::test]
async fn what_another_workload_names_as_well_is_not_put_back() {
    let (try_, set) =
        ("/apis/apps/v1/namespaces/prod/deployments/try", "/apis/apps/v1/namespaces/prod/statefulsets/app");
    let why = |whose: &str| {
        format!("{whose} names ConfigMap m as well, and would get what goes back: that is left to a human")
    };
    let none = Vec::<String>::new();
    assert_eq!(in_the_way_beside(&subject("app"), "2", &[]).await, none);
    assert_eq!(in_the_way_beside(&subject("app"), "2", &[try_]).await, [why("deployment prod/try")]);
    assert_eq!(in_the_way_beside(&subject("app"), "2", &[set]).await, [why("statefulset prod/app")]);
    assert_eq!(in_the_way_beside(&subject("app"), "1", &[try_]).await, none, "nothing would be written");
    let (stable, canary) = ("app".to_owned(), "try".to_owned());
    let both = KubernetesSubject::Canary { stable, canary, retire: false };
    assert_eq!(in_the_way_beside(&both, "2", &[try_]).await, none, "it is the same workload");
}
