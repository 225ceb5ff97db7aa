use super::*;
use crate::domain::id::InstanceId;
use crate::domain::observation::{Canary, Idle, Orchestrated};
use crate::domain::policy::{
    Ask, AskedPage, ClusterObject, CommandHabitat, Gitops, GitopsTool, Keep, Kubernetes, KubernetesSubject, ObjectKind,
    Owner, Pin, ReleaseDir, ReleaseInstance, Restart, Strategy, Switch,
};
use crate::domain::testing;
use crate::domain::time::Span;

fn policy(strategy: Strategy, habitat: Habitat) -> WorkloadPolicy {
    testing::policy(strategy, habitat)
}

fn release_dir(names: &[&str]) -> Habitat {
    let instances = names.iter().map(|name| ReleaseInstance {
        id: InstanceId::new(name),
        current: format!("current-{name}").into(),
        restart: Restart::Unit(format!("app@{name}.service")),
        cgroup: None,
    });
    Habitat::ReleaseDir(ReleaseDir {
        root: "/srv/app".into(),
        releases: "releases".into(),
        instances: instances.collect(),
    })
}

fn command(instances: &[&str]) -> Habitat {
    let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    Habitat::Command(CommandHabitat {
        current: argv("switch current"),
        releases: argv("switch releases"),
        rollback: argv("switch to {release} on {instance}"),
        status: Some(argv("switch status {release}")),
        check: None,
        retire: Some(argv("switch retire {release}")),
        instances: instances.iter().map(InstanceId::new).collect(),
        timeout: Span::from_secs(30),
    })
}

fn titles(policy: &WorkloadPolicy, purpose: Purpose, at: &[(&str, &str)]) -> Vec<String> {
    titles_with(policy, purpose, at, &[])
}

fn titles_with(policy: &WorkloadPolicy, purpose: Purpose, at: &[(&str, &str)], well: &[InstanceId]) -> Vec<String> {
    let goal = Goal { revision: "v1".into(), image: None, known_good_since: None };
    let at = at.iter().map(|(i, r)| (InstanceId::new(i), RevisionId::new(r))).collect();
    let view = ReleaseView { instances: at, ..ReleaseView::default() };
    let plan = {
        let ground = Ground { from: &"v2".into(), goal: &goal, view: &view, well, capacity: None, served: None };
        build(policy, purpose, 1, ground, Timestamp::default())
    };
    plan.steps.iter().map(|step| step.kind.title()).collect()
}

#[test]
fn direct_switches_everything_then_restarts_then_waits() {
    let policy = policy(Strategy::Direct, release_dir(&["a", "b"]));
    assert_eq!(
        titles(&policy, Purpose::First, &[("a", "v2"), ("b", "v2")]),
        [
            "switch /srv/app/current-a from v2 to v1",
            "switch /srv/app/current-b from v2 to v1",
            "restart a (unit app@a.service)",
            "restart b (unit app@b.service)",
            "wait for 2 good answers in a row from every target at v1",
        ]
    );
}

#[test]
fn rolling_takes_one_instance_at_a_time_and_leaves_alone_what_is_at_the_goal() {
    let policy = policy(Strategy::Rolling, release_dir(&["a", "b"]));
    let a = [
        "switch /srv/app/current-a from v2 to v1",
        "restart a (unit app@a.service)",
        "wait for 2 good answers in a row from a at v1",
    ];
    assert_eq!(titles(&policy, Purpose::First, &[("a", "v2"), ("b", "v1")]), a);
    assert_eq!(titles(&policy, Purpose::First, &[("a", "v2"), ("b", "v2")]).len(), 6);
    let again = titles(&policy, Purpose::Retry, &[("a", "v1"), ("b", "v1")]);
    assert_eq!(again.len(), 6, "a retry restarts what is at the goal as well: {again:?}");
    assert_eq!(again[0], "make sure that /srv/app/current-a names v1");
    let [a, b] = ["a", "b"].map(InstanceId::new);
    let there = [("a", "v1"), ("b", "v1")];
    let other = titles_with(&policy, Purpose::Retry, &there, std::slice::from_ref(&a));
    assert_eq!(other, again[3..], "what came back well is left alone");
    let all = titles_with(&policy, Purpose::Retry, &there, &[a, b]);
    assert_eq!(all, again, "where all are well, none is to blame");
}

#[test]
fn where_nothing_is_asked_nothing_is_waited_for() {
    for habitat in [release_dir(&["a", "b"]), command(&["a", "b"])] {
        for strategy in [Strategy::Direct, Strategy::Rolling] {
            let unasked = WorkloadPolicy { is_asked: false, ..policy(strategy, habitat.clone()) };
            let steps = titles(&unasked, Purpose::First, &[("a", "v2"), ("b", "v2")]);
            assert!(steps.len() >= 3 && !steps.iter().any(|step| step.contains("good answers")), "{steps:?}");
        }
    }
}

#[test]
fn commands_fill_whole_arguments_and_prove_where_the_traffic_goes() {
    let policy = policy(Strategy::BlueGreen, command(&[]));
    assert_eq!(
        titles(&policy, Purpose::First, &[]),
        [
            "run switch to v1 on {instance}",
            "wait for switch status v1",
            "wait for 10 good answers in a row from every target at v1",
            "decommission with switch retire v2",
        ]
    );
    let rolling = crate::domain::testing::policy(Strategy::Rolling, command(&["a", "b"]));
    assert_eq!(titles(&rolling, Purpose::First, &[])[3], "run switch to v1 on b");
    let partly = command::fill(&["--to={release}".to_owned()], &"v1".into(), None);
    assert_eq!(partly, ["--to={release}"], "only whole arguments are replaced");
}

fn cluster(kind: ObjectKind, replicas: u32, serving: &[&str]) -> ReleaseView {
    let object = |name: &str| ClusterObject {
        context: None,
        namespace: "prod".to_owned(),
        kind,
        name: name.to_owned(),
        uid: "u1".to_owned(),
    };
    ReleaseView {
        instances: vec![("p-0".into(), "v1".into()), ("p-1".into(), "v2".into())],
        available: Vec::new(),
        orchestrated: Some(Box::new(Orchestrated {
            object: object("app"),
            serving: serving.iter().map(InstanceId::new).collect(),
            kept: [("v1".into(), Pin { name: "app-v1".to_owned(), uid: "r1".to_owned() })].into(),
            canary: Some(Canary {
                object: object("app-canary"),
                release: "v3".into(),
                stable: "v2".into(),
                stable_rollout: crate::domain::observation::Rollout::Complete,
            }),
            ..testing::orchestrated("v2", replicas)
        })),
        ..ReleaseView::default()
    }
}

fn in_cluster(strategy: Strategy, from: &str, view: &ReleaseView) -> Vec<String> {
    as_subject(strategy, deployment(), from, view)
}

fn deployment() -> KubernetesSubject {
    KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() }
}

fn kubernetes(subject: KubernetesSubject) -> Habitat {
    Habitat::Kubernetes(Kubernetes {
        context: None,
        namespace: Some("prod".to_owned()),
        subject,
        argocd_namespace: "argocd".to_owned(),
        keep: Keep::default(),
    })
}

fn as_subject(strategy: Strategy, subject: KubernetesSubject, from: &str, view: &ReleaseView) -> Vec<String> {
    let policy = policy(strategy, kubernetes(subject));
    let goal = Goal { revision: "v1".into(), image: None, known_good_since: None };
    let plan = {
        let ground = Ground { from: &from.into(), goal: &goal, view, well: &[], capacity: None, served: None };
        build(&policy, Purpose::First, 1, ground, Timestamp::default())
    };
    plan.steps.iter().map(|step| step.kind.title()).collect()
}

#[test]
fn in_a_cluster_the_template_goes_back_and_what_stands_in_its_way_goes() {
    let restore = "give deployment prod/app the template of v1, kept by app-v1, in place of that of v2";
    let wait = "wait until every instance is at v1 and in service";
    let fill = format!("{wait}, or 1, as before, where no more find room");
    let fill = fill.as_str();
    let all = ["p-0", "p-1"];
    let deployment = cluster(ObjectKind::Deployment, 2, &["p-0"]);
    assert_eq!(in_cluster(Strategy::Rolling, "v2", &deployment), [restore, fill]);
    let down = "scale deployment prod/app to 0 while it is at v2";
    let gone = "wait until no instance of v2 is left";
    let up = "scale deployment prod/app from 0 to 2 while it is at v1";
    assert_eq!(in_cluster(Strategy::Direct, "v2", &deployment), [down, restore, gone, up, fill]);
    let empty = cluster(ObjectKind::Deployment, 0, &all);
    assert_eq!(in_cluster(Strategy::Direct, "v2", &empty), [restore, wait], "nothing is scaled up from nothing");
    let canary = "scale deployment prod/app-canary to 0 while it is at v3";
    assert_eq!(in_cluster(Strategy::Canary, "v3", &deployment), [canary, fill]);
    let mut busy = cluster(ObjectKind::Deployment, 1, &["p-0", "c-0", "c-1"]);
    busy.instances.extend(["c-0", "c-1", "c-2"].map(|pod| (pod.into(), "v3".into())));
    let [grow, ready] =
        ["scale deployment prod/app to 3 while it is at v1", "wait until 3 instances of v1 are ready for the traffic"];
    assert_eq!(in_cluster(Strategy::Canary, "v3", &busy), [grow, ready, canary, wait]);
    let retiring =
        KubernetesSubject::Canary { stable: "app".to_owned(), canary: "app-canary".to_owned(), retire: true };
    let retired = as_subject(Strategy::Canary, retiring, "v3", &busy);
    let away = "delete deployment prod/app-canary while it is at v3 and has no pods to run";
    assert_eq!(retired[3..], [wait, "wait until every check says that v1 is well", away]);
    busy.orchestrated.as_mut().unwrap().replicas = 3;
    assert_eq!(in_cluster(Strategy::Canary, "v3", &busy), [ready, canary, wait], "they were asked for already");
    let alone = cluster(ObjectKind::Deployment, 2, &["p-1"]);
    assert_eq!(in_cluster(Strategy::Canary, "v3", &alone), [""; 0], "the canary is all that serves");
    let restore = restore.replace("deployment", "statefulset");
    let set = cluster(ObjectKind::StatefulSet, 2, &["p-0"]);
    let delete = "delete the pods of statefulset prod/app at v2 that are not in service";
    assert_eq!(in_cluster(Strategy::Rolling, "v2", &set), [restore.as_str(), delete, fill]);
    let sound = cluster(ObjectKind::StatefulSet, 2, &all);
    let steps = in_cluster(Strategy::Rolling, "v2", &sound);
    assert_eq!(steps, [restore.as_str(), delete, wait], "one may be in the way by then");
    let mut with_volumes = set;
    with_volumes.orchestrated.as_mut().unwrap().is_stateless = false;
    assert_eq!(in_cluster(Strategy::Rolling, "v2", &with_volumes), [restore.as_str(), fill]);
    assert_eq!(in_cluster(Strategy::Rolling, "v2", &ReleaseView::default()), [""; 0], "a replay sees no objects");
}

/// Green serves v2, blue waits with v1, each with so many pods.
fn colours(green: u32, blue: u32) -> ReleaseView {
    let mut view = cluster(ObjectKind::Deployment, green, &["p-0", "p-1"]);
    let object = |name: &str| ClusterObject {
        context: None,
        namespace: "prod".to_owned(),
        kind: ObjectKind::Deployment,
        name: name.to_owned(),
        uid: name.to_owned(),
    };
    let labels = |colour: &str| [("version".to_owned(), colour.to_owned())].into();
    let whole = view.orchestrated.as_mut().unwrap();
    whole.object = object("green");
    whole.canary = None;
    whole.kept = [("v0".into(), Pin { name: "green-v0".to_owned(), uid: "r0".to_owned() })].into();
    whole.idle = Some(Idle {
        object: object("blue"),
        release: "v1".into(),
        replicas: blue,
        stalled: None,
        instances: ["p-0".into()].into(),
        switch: Switch {
            service: Pin { name: "front".to_owned(), uid: "s1".to_owned() },
            before: labels("green"),
            after: labels("blue"),
        },
    });
    view
}

fn between(view: &ReleaseView, from: &str, retire: bool, asks: bool) -> Vec<String> {
    let page = AskedPage { scheme: "http".to_owned(), port: "80".to_owned(), path: "/".to_owned() };
    let subject = KubernetesSubject::BlueGreen {
        service: "front".to_owned(),
        selector_key: "version".to_owned(),
        blue: "blue".to_owned(),
        green: "green".to_owned(),
        retire,
        ask: asks.then_some(Ask { url: None, page: Some(page), sign: None }),
    };
    as_subject(Strategy::BlueGreen, subject, from, view)
}

/// Whatever is asked for by then.
#[test]
fn what_serves_when_it_is_decided_is_enough_for_the_rollout() {
    let plan = |replicas, serving: &[&str], served| {
        let (policy, view) =
            (policy(Strategy::Rolling, kubernetes(deployment())), cluster(ObjectKind::Deployment, replicas, serving));
        let goal = Goal { revision: "v1".into(), image: None, known_good_since: None };
        let ground = Ground { from: &"v2".into(), goal: &goal, view: &view, well: &[], capacity: None, served };
        build(&policy, Purpose::First, 1, ground, Timestamp::default()).served()
    };
    assert_eq!(plan(2, &["p-0", "p-1"], None), Some(2));
    assert_eq!(plan(1, &["p-0", "p-1"], None), Some(1), "one is there beside it for the time of a rollout");
    assert_eq!([plan(2, &["p-0"], None), plan(2, &[], None)], [Some(1), None]);
    assert_eq!(plan(2, &["p-0"], Some(2)), Some(2), "as an attempt before found it");
}

#[test]
fn between_colours_capacity_comes_before_the_traffic_and_the_proof_after() {
    let up = "scale deployment prod/blue to 3 while it is at v1";
    let ready = "wait until 3 instances of v1 are ready for the traffic";
    let healthy = "wait until 3 instances of v1 are ready for the traffic and answer as healthy";
    let switch = "switch Service front from version=green to version=blue in prod";
    let led = "make sure that Service front leads to v1 alone";
    let answered = "make sure that Service front leads to v1 alone and that 10 of 10 answers come from it";
    let well = "wait until every check says that v1 is well";
    let down = "scale deployment prod/green to 0 while it is at v2";
    assert_eq!(between(&colours(3, 3), "v2", false, false), [ready, switch, led]);
    assert_eq!(between(&colours(3, 5), "v2", false, true), [healthy, switch, answered]);
    assert_eq!(between(&colours(3, 0), "v2", true, true), [up, healthy, switch, answered, well, down]);
    assert_eq!(
        between(&colours(0, 3), "v2", false, false),
        [ready, switch, led],
        "whatever still serves is too little"
    );
    assert_eq!(between(&colours(0, 0), "v2", false, false), [""; 0], "there is nothing to give the traffic to");
}

#[test]
fn between_colours_a_second_attempt_does_the_same_from_wherever_the_first_came() {
    let mut switched = colours(3, 0);
    let whole = switched.orchestrated.as_mut().unwrap();
    let idle = whole.idle.as_mut().unwrap();
    std::mem::swap(&mut whole.object, &mut idle.object);
    std::mem::swap(&mut whole.desired, &mut idle.release);
    idle.switch = idle.switch.reversed();
    let steps = between(&switched, "v2", false, false);
    assert_eq!(steps[1], "switch Service front from version=green to version=blue in prod", "{steps:#?}");
    let mut other = colours(3, 3);
    other.orchestrated.as_mut().unwrap().idle.as_mut().unwrap().release = "v4".into();
    assert_eq!(between(&other, "v2", false, false), [""; 0], "neither colour has the goal, and nothing keeps it");
    let whole = other.orchestrated.as_mut().unwrap();
    whole.kept.insert("v1".into(), Pin { name: "green-v1".to_owned(), uid: "r1".to_owned() });
    let own = between(&other, "v2", false, false);
    assert_eq!(own[0], "give deployment prod/green the template of v1, kept by green-v1, in place of that of v2");
}

#[test]
fn what_the_goal_names_goes_back_before_everything_but_the_pauses() {
    let titles = |kinds: &[StepKind], first: &[StepKind]| -> Vec<String> {
        let steps = |kinds: &[StepKind]| {
            let step = |kind: &StepKind| Step { kind: kind.clone(), timeout: Span::from_secs(1) };
            kinds.iter().map(step).collect::<Vec<Step>>()
        };
        let mut plan = Plan {
            attempt: 1,
            purpose: Purpose::First,
            strategy: Strategy::BlueGreen,
            from: "v2".into(),
            to: "v1".into(),
            steps: steps(kinds),
            deadline: Timestamp::default(),
        };
        plan.begin_with(steps(first));
        plan.steps.iter().map(|step| step.kind.title()).collect()
    };
    let release = |name: &str| StepKind::AwaitWell { release: name.into() };
    let object = || OwnerObject {
        context: None,
        tool: GitopsTool::ArgoCd,
        namespace: "argocd".to_owned(),
        name: "web".to_owned(),
    };
    let pause = StepKind::PauseOwner { owner: object(), limit: Span::from_secs(60), is_paused: false };
    let all = titles(&[pause.clone(), release("switch")], &[release("setting")]);
    assert_eq!(all[1..], [release("setting").title(), release("switch").title()], "{all:?}");
    assert_eq!(titles(std::slice::from_ref(&pause), &[release("setting")]), [pause.title()], "nothing is done");
    assert!(titles(&[], &[release("setting")]).is_empty());
}

#[test]
fn whoever_would_undo_it_is_paused_first_where_the_policy_says_so() {
    let gitops = |tool, namespace: Option<&str>, name: Option<&str>| Owner::Gitops {
        tool,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
    };
    let mut view = cluster(ObjectKind::Deployment, 2, &["p-0"]);
    view.orchestrated.as_mut().unwrap().owners = vec![
        gitops(GitopsTool::ArgoCd, None, Some("web")),
        gitops(GitopsTool::FluxHelmRelease, Some("prod"), Some("app")),
        gitops(GitopsTool::FluxKustomization, None, None),
    ];
    let unpaused = in_cluster(Strategy::Rolling, "v2", &view);
    assert_eq!(unpaused.len(), 2);
    let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() };
    let argocd_namespace = "argocd".to_owned();
    let (namespace, keep) = (Some("prod".to_owned()), Keep::default());
    let habitat = Kubernetes { context: None, namespace, subject, argocd_namespace, keep };
    let mut policy = policy(Strategy::Rolling, Habitat::Kubernetes(habitat));
    policy.gitops = Gitops::Pause;
    let goal = Goal { revision: "v1".into(), image: None, known_good_since: None };
    let from = "v2".into();
    let ground = Ground { from: &from, goal: &goal, view: &view, well: &[], capacity: None, served: None };
    let plan = build(&policy, Purpose::First, 1, ground, Timestamp::default());
    let titles: Vec<String> = plan.steps.iter().map(|step| step.kind.title()).collect();
    let pauses =
        ["pause Argo CD Application argocd/web for 1h at most", "pause Flux HelmRelease prod/app for 1h at most"];
    assert_eq!(titles[..2], pauses);
    assert_eq!(titles[2..], unpaused);
    let ground = Ground { view: &ReleaseView::default(), ..ground };
    let none = build(&policy, Purpose::First, 1, ground, Timestamp::default());
    assert!(none.steps.is_empty(), "nothing is paused for nothing");
}
