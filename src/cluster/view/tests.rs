use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::cluster::facts::Kills;
use crate::domain::testing;

const PLACE: Place<'_> = Place { context: None, namespace: "prod" };

fn fact<K: DeserializeOwned, F: TryFrom<K>>(object: Value) -> F
where
    F::Error: std::fmt::Debug,
{
    F::try_from(serde_json::from_value::<K>(object).unwrap()).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(image: &str, status: Value) -> Workload {
    let mut status = status;
    status["observedGeneration"] = status.get("observedGeneration").cloned().unwrap_or(json!(4));
    fact::<Deployment, _>(json!({
        "metadata": {"name": "a", "uid": "d1", "generation": 4},
        "spec": {"replicas": 2, "selector": {}, "template": template(image)},
        "status": status,
    }))
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn replica_set(hash: &str, image: &str, number: i64) -> Revision {
    let mut kept = template(image);
    kept["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    fact::<ReplicaSet, _>(json!({
        "metadata": {
            "name": format!("a-{hash}"), "uid": format!("rs-{hash}"),
            "labels": {"pod-template-hash": hash},
            "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
            "ownerReferences": owner("Deployment", "a", "d1"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"selector": {}, "template": kept},
    }))
}

fn pod(name: &str, hash: &str, ready: bool, status: Value) -> Pod {
    let mut status = status;
    status["conditions"] = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
    status["podIP"] = json!("10.42.0.7");
    fact::<v1::Pod, _>(json!({
        "metadata": {
            "name": name, "uid": format!("p-{name}"), "labels": {"pod-template-hash": hash},
            "ownerReferences": owner("ReplicaSet", &format!("a-{hash}"), &format!("rs-{hash}")),
        },
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": status,
    }))
}

fn look(workload: &Workload, revisions: &[Revision], pods: &[Pod]) -> Option<ReleaseView> {
    releases(PLACE, workload, &newest_first(revisions.iter()), &pods.iter().collect::<Vec<_>>())
}

fn told(view: &ReleaseView) -> (String, String, Rollout) {
    let orchestrated = view.orchestrated.as_ref().unwrap();
    let at: Vec<String> = view.instances.iter().map(|(pod, at)| format!("{pod}={at}")).collect();
    (orchestrated.desired.to_string(), at.join(" "), orchestrated.rollout.clone())
}

#[test]
fn a_deployment_is_at_the_revision_whose_template_it_has() {
    let revisions = [replica_set("h1", "app:1", 1), replica_set("h2", "app:2", 2)];
    let workload = deployment("app:2", json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}));
    let pods = [
        pod("a-1", "h1", true, json!({})),
        pod("a-2", "h1", false, json!({"phase": "Failed"})),
        pod("a-3", "h2", false, json!({})),
    ];
    let view = look(&workload, &revisions, &pods).unwrap();
    let left = "1 of 2 pods are at h2".to_owned();
    assert_eq!(told(&view), ("h2".to_owned(), "a-1=h1 a-3=h2".to_owned(), Rollout::UnderWay { left }));
    let names: Vec<_> =
        view.available.iter().map(|r| format!("{} {}", r.revision, r.image.as_deref().unwrap())).collect();
    assert_eq!(names, ["h2 app:2", "h1 app:1"]);
    let orchestrated = view.orchestrated.unwrap();
    assert_eq!(orchestrated.serving, [InstanceId::new("a-1")]);
    assert_eq!(orchestrated.kept[&RevisionId::new("h1")], Pin { name: "a-h1".to_owned(), uid: "rs-h1".to_owned() });
    assert_eq!(orchestrated.object.to_string(), "deployment prod/a");
}

#[test]
fn an_undo_brings_the_old_revision_back_though_its_number_is_new() {
    let revisions = [replica_set("h1", "app:1", 3), replica_set("h2", "app:2", 2)];
    let full = json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    let pods = [pod("a-1", "h1", true, json!({})), pod("a-2", "h1", true, json!({}))];
    let view = look(&deployment("app:1", full.clone()), &revisions, &pods).unwrap();
    assert_eq!(told(&view), ("h1".to_owned(), "a-1=h1 a-2=h1".to_owned(), Rollout::Complete));
    assert_eq!(look(&deployment("app:3", full), &revisions, &pods), None, "its ReplicaSet is still to come");
}

#[test]
fn counts_that_run_ahead_of_the_pods_complete_nothing() {
    let revisions = [replica_set("h1", "app:1", 1), replica_set("h2", "app:2", 2)];
    let workload = deployment("app:2", json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}));
    let mut pods = vec![pod("a-1", "h2", true, json!({})), pod("a-2", "h2", false, json!({}))];
    let rollout = |pods: &[Pod]| look(&workload, &revisions, pods).unwrap().orchestrated.unwrap().rollout;
    assert_eq!(rollout(&pods), Rollout::UnderWay { left: "1 of 2 pods of h2 are ready".to_owned() });
    pods[1].is_ready = true;
    pods.push(pod("a-0", "h1", true, json!({})));
    assert_eq!(rollout(&pods), Rollout::UnderWay { left: "1 pods of other revisions are still there".to_owned() });
    pods[2].is_ending = true;
    assert_eq!(rollout(&pods), Rollout::Complete);
    let unseen = deployment(
        "app:2",
        json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "observedGeneration": 3}),
    );
    let rollout = look(&unseen, &revisions, &pods).unwrap().orchestrated.unwrap().rollout;
    assert_eq!(rollout, Rollout::UnderWay { left: "its controller has not taken it up yet".to_owned() });
}

#[test]
fn only_the_present_rollout_can_be_past_its_deadline() {
    let revisions = [replica_set("h1", "app:1", 3), replica_set("h2", "app:2", 2)];
    let given_up = |image: &str| {
        let message = "ReplicaSet \"a-h2\" has timed out progressing.";
        let condition = json!({
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": message,
        });
        deployment(
            image,
            json!({"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2, "conditions": [condition]}),
        )
    };
    let rollout = |image: &str| look(&given_up(image), &revisions, &[]).unwrap().orchestrated.unwrap().rollout;
    assert!(matches!(rollout("app:2"), Rollout::Stalled { why } if why.contains("timed out")));
    assert!(matches!(rollout("app:1"), Rollout::UnderWay { .. }), "the word is about the release before");
}

#[test]
fn statefulsets_and_daemonsets_keep_their_templates_in_controller_revisions() {
    let revision = |kind: &str, hash: &str, number: i64| -> Revision {
        fact::<ControllerRevision, _>(json!({
            "metadata": {"name": format!("db-{hash}"), "uid": format!("cr-{hash}"), "ownerReferences": owner(kind, "db", "s1")},
            "data": {"spec": {"template": {"$patch": "replace", "spec": {"containers": [{"image": format!("db:{hash}")}]}}}},
            "revision": number,
        }))
    };
    let pod = |name: &str, label: &str| -> Pod {
        fact::<v1::Pod, _>(json!({
            "metadata": {
                "name": name, "uid": name, "labels": {"controller-revision-hash": label},
                "ownerReferences": owner("StatefulSet", "db", "s1"),
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "podIP": "fd00::7"},
        }))
    };
    let set: Workload = fact::<StatefulSet, _>(json!({
        "metadata": {"name": "db", "uid": "s1", "generation": 2},
        "spec": {"replicas": 2, "serviceName": "db", "selector": {}, "template": template("db:2")},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2, "updateRevision": "db-h2"},
    }));
    let revisions = [revision("StatefulSet", "h1", 1), revision("StatefulSet", "h2", 2)];
    let pods = [pod("db-0", "db-h1"), pod("db-1", "db-h2")];
    let view = look(&set, &revisions, &pods).unwrap();
    let left = "1 of 2 pods are at h2".to_owned();
    assert_eq!(told(&view), ("h2".to_owned(), "db-0=h1 db-1=h2".to_owned(), Rollout::UnderWay { left }));
    let daemons: Workload = fact::<DaemonSet, _>(json!({
        "metadata": {"name": "db", "uid": "s1", "generation": 2},
        "spec": {"selector": {}, "template": template("db:2"), "updateStrategy": {"type": "OnDelete"}},
        "status": {
            "observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberMisscheduled": 0,
            "numberReady": 2, "updatedNumberScheduled": 2, "numberAvailable": 2,
        },
    }));
    assert!(daemons.on_delete);
    let view = look(&daemons, &revisions, &[pod("db-x", "h2"), pod("db-y", "h2")]).unwrap();
    assert_eq!(told(&view), ("h2".to_owned(), "db-x=h2 db-y=h2".to_owned(), Rollout::Complete));
}

/// Of three pods that are asked for: who is there, who came to life, and what the release on its way lacks of its own.
#[test]
fn what_a_rollout_could_not_bring_about_is_absent_and_what_ends_is_leaving() {
    let set = |strategy: Value| -> Workload {
        fact::<StatefulSet, _>(json!({
            "metadata": {"name": "db", "uid": "s1", "generation": 2},
            "spec": {"replicas": 3, "serviceName": "db", "selector": {}, "template": template("db:2"), "updateStrategy": strategy},
            "status": {"observedGeneration": 2, "replicas": 3, "updateRevision": "db-h2"},
        }))
    };
    let revision = |hash: &str, number: i64| -> Revision {
        fact::<ControllerRevision, _>(json!({
            "metadata": {
                "name": format!("db-{hash}"), "uid": format!("c-{hash}"), "labels": {"controller.kubernetes.io/hash": hash},
                "ownerReferences": owner("StatefulSet", "db", "s1"), "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "data": {"spec": {"template": template(hash)}},
            "revision": number,
        }))
    };
    let pod = |name: &str, hash: &str, ends: Option<&str>, began: bool| -> Pod {
        let mut object = json!({
            "metadata": {
                "name": name, "uid": name, "labels": {"controller-revision-hash": format!("db-{hash}")},
                "ownerReferences": owner("StatefulSet", "db", "s1"), "deletionTimestamp": ends,
            },
            "status": {},
        });
        if began {
            object["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
        }
        fact::<v1::Pod, _>(object)
    };
    let revisions = [revision("h1", 1), revision("h2", 2)];
    let seen = |strategy: Value, pods: &[Pod]| {
        let view = look(&set(strategy), &revisions, pods).unwrap().orchestrated.unwrap();
        let leaving =
            view.leaving.iter().map(|(release, of)| (release.to_string(), of.instances, of.until.as_millis()));
        (view.absent, leaving.collect::<Vec<_>>())
    };
    let [zero, one] = [pod("db-0", "h1", None, true), pod("db-1", "h1", None, true)];
    let two = |began| pod("db-2", "h2", None, began);
    let both = [zero.clone(), one.clone()];
    assert_eq!(seen(json!({}), &both), (1, vec![]), "its controller is not let make one");
    assert_eq!(seen(json!({}), &[&both[..], &[two(false)]].concat()).0, 1, "no node takes it up");
    assert_eq!(seen(json!({}), &[&both[..], &[two(true)]].concat()).0, 0);
    let ends = pod("db-2", "h1", Some("2026-01-01T00:01:00Z"), true);
    let until = ("h1".to_owned(), 1, 1_767_225_660_000);
    assert_eq!(seen(json!({}), &[&both[..], &[ends]].concat()), (0, vec![until]), "its place is still taken");
    let evicted = Pod { is_ending: true, ..pod("db-2", "h1", None, true) };
    assert_eq!(seen(json!({}), &[&both[..], &[evicted]].concat()).0, 1, "it stands about");
    assert_eq!(seen(json!({"type": "OnDelete"}), &both).0, 0, "nobody replaces any");
    let held_back = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
    assert_eq!(seen(held_back, &both).0, 0, "none is to be at the new release");
}

/// It runs beside the others for as long as the pod does; what only runs before them serves nobody.
#[test]
fn a_sidecar_that_begins_before_the_others_names_ports_as_they_do() {
    let pod: Pod = fact::<v1::Pod, _>(json!({
        "metadata": {
            "name": "a-1", "uid": "p-a-1", "labels": {"pod-template-hash": "h1"},
            "ownerReferences": owner("ReplicaSet", "a-h1", "rs-h1"),
        },
        "spec": {
            "initContainers": [
                {"name": "migrate", "ports": [{"name": "debug", "containerPort": 4000}]},
                {"name": "proxy", "restartPolicy": "Always", "ports": [
                    {"name": "metrics", "containerPort": 9090}, {"name": "http", "containerPort": 9091},
                ]},
            ],
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {},
    }));
    assert_eq!(["metrics", "http", "debug"].map(|name| pod.port(name)), [Some(9090), Some(8080), None]);
}

#[test]
fn kills_for_memory_are_counted_as_they_come() {
    let status = |restarts: u32, state: Value, last: Value| {
        json!({"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last,
        }]})
    };
    let ended = |reason: &str| json!({"terminated": {"exitCode": 137, "reason": reason}});
    let mut kills = Kills::default();
    let mut note = |status: Value| kills.note(&pod("a-1", "h1", false, status));
    assert_eq!(note(status(0, json!({"running": {}}), json!({}))), 0);
    assert_eq!(note(status(0, ended("OOMKilled"), json!({}))), 1);
    assert_eq!(note(status(1, json!({"running": {}}), ended("OOMKilled"))), 1, "the same end, seen again");
    assert_eq!(note(status(2, json!({"running": {}}), ended("Error"))), 1);
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(note(status(3, waiting, ended("OOMKilled"))), 2);
    let lacking = pod("a-1", "h1", false, status(3, json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({})));
    assert!(lacking.lacks_image());
    assert_eq!(lacking.restarts(), 3);
}

#[test]
fn a_canary_is_in_question_while_it_has_pods_to_run() {
    let stable = |rollout| ReleaseView {
        instances: vec![(InstanceId::new("a-1"), RevisionId::new("h1"))],
        available: ["h1", "h9"].map(|hash| Release { revision: RevisionId::new(hash), image: None }).to_vec(),
        orchestrated: Some(Box::new(Orchestrated { rollout, ..orchestrated("a", "h1", 1) })),
        ..ReleaseView::default()
    };
    let canary = |replicas, pods: &[&str]| ReleaseView {
        instances: pods.iter().map(|pod| (InstanceId::new(pod), RevisionId::new("h2"))).collect(),
        available: ["h2", "h0"].map(|hash| Release { revision: RevisionId::new(hash), image: None }).to_vec(),
        orchestrated: Some(Box::new(orchestrated("a-canary", "h2", replicas))),
        ..ReleaseView::default()
    };
    let tried = with_canary(stable(Rollout::Complete), canary(1, &["c-1"]));
    assert_eq!(told(&tried), ("h2".to_owned(), "a-1=h1 c-1=h2".to_owned(), Rollout::Complete));
    let names: Vec<_> = tried.available.iter().map(|release| release.revision.as_str()).collect();
    assert_eq!(names, ["h2", "h1"], "what the canary tried before is no goal, nor what nobody serves");
    let beside = |view: &ReleaseView| {
        let canary = view.orchestrated.as_ref().unwrap().canary.as_ref().unwrap();
        (canary.stable.as_str().to_owned(), canary.stable_rollout.clone())
    };
    assert_eq!(beside(&tried), ("h1".to_owned(), Rollout::Complete));
    let stalled = || Rollout::Stalled { why: "no progress".to_owned() };
    let slow = with_canary(stable(stalled()), canary(1, &["c-1"]));
    assert_eq!(beside(&slow), ("h1".to_owned(), stalled()));
    let left = "no progress".to_owned();
    assert_eq!(told(&slow).2, Rollout::UnderWay { left }, "the canary's own goes on");
    let going = with_canary(stable(Rollout::Complete), canary(0, &["c-1"]));
    let left = "1 pods of deployment prod/a-canary are still there".to_owned();
    assert_eq!(told(&going), ("h1".to_owned(), "a-1=h1 c-1=h2".to_owned(), Rollout::UnderWay { left }));
    let mut lacking = stable(Rollout::Complete);
    lacking.orchestrated.as_mut().unwrap().absent = 6;
    let beside = with_canary(lacking, canary(1, &["c-1"])).orchestrated.unwrap();
    assert_eq!(beside.absent, 0, "what the one beside lacks is not the canary's");
    let gone = with_canary(stable(Rollout::Complete), canary(0, &[]));
    assert_eq!(told(&gone), ("h1".to_owned(), "a-1=h1".to_owned(), Rollout::Complete));
    let names: Vec<_> = gone.available.iter().map(|release| release.revision.as_str()).collect();
    assert_eq!(names, ["h1", "h9"], "a canary without pods leads nowhere");
    assert_eq!(gone.orchestrated.unwrap().canary.unwrap().object.name, "a-canary");
}

fn orchestrated(name: &str, hash: &str, replicas: u32) -> Orchestrated {
    let like = testing::orchestrated(hash, replicas);
    let object = ClusterObject { name: name.to_owned(), uid: format!("uid-{name}"), ..like.object };
    Orchestrated { object, ..like }
}
