//! Two colours behind one Service: the traffic goes back to the one before, once that can take it, and a human's switch
//! stays.

use std::collections::BTreeMap;

use axum::Router;
use axum::routing::get;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use rollbackd::act::Hands;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::Event;
use rollbackd::domain::policy::{Pin, Switch};
use rollbackd::domain::response::plan::{Outcome, StepKind};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::Actuator;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::container::VERSION_HEADER;
use super::namespace::{Cluster, LOOK_EVERY, Needs, deployment, on_cluster};
use super::proxy::{Ask, Proxy};
use super::rolling::on_errors;
use super::settings;
use super::strategies::{all_at, object, of};
use super::watch::Watch;

const BAD: &str = "shop:v2-errors40";

/// How the policy names the place; the Service is `shop`.
const PLACE: &str = "blue = \"blue\", green = \"green\", service";

fn policy(place: &str, watch: &str) -> (String, String) {
    (format!("{place}{PLACE}"), format!("strategy = \"blue-green\"\n{watch}"))
}

async fn colour(cluster: &Cluster, name: &str, mut colour: Value) -> Deployment {
    colour["spec"]["template"]["metadata"]["labels"] = json!({ "app": name, "tier": "web", "version": name });
    cluster.create(colour).await
}

fn labels(colour: &str) -> BTreeMap<String, String> {
    [("tier", "web"), ("version", colour)].map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}

/// Blue serves with two good pods, green has none.
async fn blue_serves(cluster: &Cluster) -> Service {
    blue_serves_as(cluster, |deployment| deployment).await
}

async fn blue_serves_as(cluster: &Cluster, is_made: impl Fn(Value) -> Value) -> Service {
    colour(cluster, "blue", is_made(deployment("blue", 2, "shop:v1"))).await;
    colour(cluster, "green", is_made(deployment("green", 0, "shop:v1"))).await;
    cluster.rolled_out("blue").await;
    let spec = json!({ "selector": labels("blue"), "ports": [{ "port": 80, "targetPort": "http" }] });
    cluster.create(json!({ "metadata": { "name": "shop" }, "spec": spec })).await
}

/// A bad release comes up in green and gets the traffic, as whoever deploys would have it.
async fn green_gets_a_bad_release(cluster: &Cluster) {
    green_gets(cluster, BAD).await;
}

async fn green_gets(cluster: &Cluster, image: &str) {
    let container = json!({ "name": "app", "image": image });
    let patch = json!({ "spec": { "replicas": 2, "template": { "spec": { "containers": [container] } } } });
    cluster.patch("green", &patch).await;
    cluster.rolled_out("green").await;
    select(cluster, json!(labels("green"))).await;
}

async fn select(cluster: &Cluster, selector: Value) {
    let services = cluster.api::<Service>();
    let patch = json!([{ "op": "replace", "path": "/spec/selector", "value": selector }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
    services.patch("shop", &PatchParams::default(), &patch).await.unwrap();
}

fn selector(service: &Service) -> BTreeMap<String, String> {
    service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default()
}

async fn steps(watch: &Watch) -> Vec<(StepKind, Outcome)> {
    let records = watch.records().await;
    let plans = records.iter().filter_map(|record| match &record.event {
        Event::Planned { plan, .. } => Some(plan),
        _ => None,
    });
    let plans: Vec<_> = plans.collect();
    let [plan] = plans[..] else { panic!("one plan: {plans:#?}") };
    let finished = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { step, outcome } => Some((*step as usize, outcome.clone())),
        _ => None,
    });
    finished.map(|(step, outcome)| (plan.steps[step].kind.clone(), outcome)).collect()
}

fn last(alerts: &[Alert]) -> (Phase, &str) {
    alerts.last().map(|alert| (alert.phase, alert.summary.as_str())).expect("something is told")
}

async fn versions(service: &Service) -> Vec<String> {
    let url = format!("http://{}/", service.spec.as_ref().unwrap().cluster_ip.as_ref().unwrap());
    let mut versions = Vec::new();
    for _ in 0..10 {
        // A client of its own for each request: one connection stays with one pod.
        let answer = reqwest::get(&url).await.expect("an answer");
        versions.push(answer.headers()[VERSION_HEADER].to_str().unwrap().to_owned());
    }
    versions
}

#[test]
fn the_traffic_goes_back_to_the_colour_that_still_runs_and_nothing_else_changes() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = blue_serves(cluster).await;
        // By the version that answers name; elsewhere by the pod that they name.
        let by_version = on_errors().replace("expect = {", "revision_json = \"version\", expect = {");
        let (place, policy) = policy("", &by_version);
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        let colours = [cluster.rolled_out("blue").await, cluster.rolled_out("green").await];
        let alerts = watch.told_to_the_end().await;
        assert_eq!(last(&alerts).0, Phase::Restored, "{}", last(&alerts).1);
        let after: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(after.spec, before.spec);
        assert_eq!(versions(&after).await, ["v1"; 10]);
        for colour in colours {
            let now: Deployment = cluster.api().get(&colour.name_any()).await.unwrap();
            assert_eq!(now.metadata.generation, colour.metadata.generation, "{} was written to", now.name_any());
        }
        let steps = steps(&watch).await;
        let kinds: Vec<&StepKind> = steps.iter().map(|(kind, _)| kind).collect();
        let [
            StepKind::AwaitCapacity { at_least: 2, .. },
            StepKind::SwitchService { .. },
            StepKind::ProveTraffic { answers: 10, ask: Some(_), .. },
        ] = kinds[..]
        else {
            panic!("{kinds:#?}")
        };
        assert!(steps.iter().all(|(_, outcome)| *outcome == Outcome::Applied), "{steps:#?}");
    });
}

#[test]
fn a_colour_without_pods_is_scaled_up_before_it_gets_the_traffic_and_the_bad_one_goes_after() {
    on_cluster(Needs::Pods, async |cluster| {
        blue_serves(cluster).await;
        let (place, policy) = policy("retire = true, ", &on_errors());
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        cluster.patch("blue", &json!({ "spec": { "replicas": 0 } })).await;
        cluster.until_pods("blue", "gone", <[Pod]>::is_empty).await;
        // All the while the Service leads to two ready pods, of one colour or the other.
        let alerts = tokio::select! {
            alerts = watch.told_to_the_end() => alerts,
            fewest = leads_to_fewer_than(cluster, 2) => panic!("it led to {fewest} pods"),
        };
        assert_eq!(last(&alerts).0, Phase::Restored, "{}", last(&alerts).1);
        assert!(of(&alerts, Phase::Started).reason.contains("blue to 2"), "{alerts:#?}");
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(selector(&service), labels("blue"));
        cluster.until_pods("blue", "up again", all_at("shop:v1", 2)).await;
        cluster.until_pods("green", "gone", <[Pod]>::is_empty).await;
        let steps = steps(&watch).await;
        assert_eq!(steps.len(), 6, "{steps:#?}");
        assert!(matches!(&steps[4].0, StepKind::AwaitWell { .. }), "{steps:#?}");
        assert!(steps.iter().all(|(_, outcome)| *outcome == Outcome::Applied), "{steps:#?}");
    });
}

/// Blue runs as it began; but whichever pod of it starts next reads what the ConfigMap says.
#[test]
fn a_configmap_that_was_changed_for_the_bad_colour_goes_back_before_the_traffic() {
    on_cluster(Needs::Pods, async |cluster| {
        settings::create(cluster, "shop-config", "rate20").await;
        blue_serves_as(cluster, |deployment| settings::naming(deployment, "shop-config")).await;
        let (place, policy) = policy("keep = [\"configmaps\"], ", &on_errors());
        let mut watch = settings::watch_in(cluster, &place, &policy).await;
        settings::change(cluster, "shop-config", "errors40").await;
        green_gets(cluster, "shop:v2").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(last(&alerts).0, Phase::Restored, "{}", last(&alerts).1);
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(selector(&service), labels("blue"));
        assert_eq!(settings::behaviour(cluster, "shop-config").await.as_deref(), Some("rate20"));
        let steps = steps(&watch).await;
        let [(StepKind::RestoreSetting { .. }, Outcome::Applied), rest @ ..] = &steps[..] else { panic!("{steps:#?}") };
        assert!(rest.iter().any(|(kind, _)| matches!(kind, StepKind::SwitchService { .. })), "{steps:#?}");
    });
}

/// Ends once the Service leads to fewer.
async fn leads_to_fewer_than(cluster: &Cluster, count: usize) -> usize {
    loop {
        let slices = cluster.api::<EndpointSlice>();
        let found = slices.list(&ListParams::default().labels("kubernetes.io/service-name=shop")).await.unwrap();
        let endpoints = found.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let is_ready = |ready: Option<bool>| ready == Some(true);
        let ready = endpoints
            .filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|conditions| is_ready(conditions.ready)));
        let ready = ready.count();
        if ready < count {
            return ready;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[test]
fn a_service_that_selects_both_or_neither_is_left_alone_and_that_is_told() {
    on_cluster(Needs::Pods, async |cluster| {
        blue_serves(cluster).await;
        let (place, policy) = policy("", &on_errors().replace("for = \"1s\"", "for = \"5s\""));
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        let suspected = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Suspected);
        watch.until("suspicious", suspected).await;
        let plan = watch.view_of("shop/plan").await;
        let steps = plan["plan"]["steps"].as_array().expect("steps").iter();
        let steps: Vec<&str> = steps.map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["await-capacity", "switch-service", "prove-traffic"], "{plan:#}");
        assert_eq!(plan["findings"], json!([]), "{plan:#}");
        select(cluster, json!({ "tier": "web" })).await;
        let held = async |watch: &Watch| {
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains("both colours"))
        };
        watch.until("held by a Service that selects both", held).await;
        select(cluster, json!({})).await;
        let says = async |watch: &Watch| watch.view().await["no_goal"].to_string().contains("neither colour");
        watch.until("at a loss with a Service that selects neither", says).await;
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(selector(&service), BTreeMap::new(), "nothing was written");
        let records = watch.records().await;
        assert!(!records.iter().any(|record| matches!(record.event, Event::Planned { .. })), "{records:#?}");
    });
}

#[test]
fn whoever_switches_back_meanwhile_is_the_one_to_decide() {
    on_cluster(Needs::Pods, async |cluster| {
        blue_serves(cluster).await;
        let (place, policy) = policy("", &on_errors().replace("stable_for = \"2s\"", "stable_for = \"60s\""));
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        let verifying = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Verifying);
        watch.until("verifying", verifying).await;
        select(cluster, json!(labels("green"))).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(last(&alerts).0, Phase::Closed, "{}", last(&alerts).1);
        steps(&watch).await;
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(selector(&service), labels("green"));
    });
}

/// The Service leads to the good colour, and what leads to the Service still to the bad one.
#[test]
fn traffic_that_does_not_follow_is_noticed_and_after_a_second_try_a_humans() {
    on_cluster(Needs::Pods, async |cluster| {
        blue_serves(cluster).await;
        let elsewhere = Router::new().route("/", get(async || axum::Json(json!({ "version": "v2" }))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let traffic = format!("traffic = \"http://{}/\", ", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, elsewhere).await });
        let by_version = on_errors().replace("expect = {", "revision_json = \"version\", expect = {");
        let (place, policy) = policy(&traffic, &by_version);
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        let failed = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Failed);
        watch.until("done with the first try", failed).await;
        let alerts = watch.told_to_the_end().await;
        let (phase, summary) = last(&alerts);
        assert_eq!(phase, Phase::Escalated, "{summary}");
        let why = &of(&alerts, Phase::Failed).reason;
        assert!(why.contains("answer 1 of 10 comes from v2, not from v1"), "{why}");
        let tries = alerts.iter().filter(|alert| alert.phase == Phase::Started).count();
        assert_eq!(tries, 2, "{alerts:#?}");
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(selector(&service), labels("blue"));
    });
}

#[test]
fn a_daemon_that_is_killed_after_the_switch_comes_to_the_same_end() {
    on_cluster(Needs::Pods, async |cluster| {
        blue_serves(cluster).await;
        let (place, policy) = policy("", &on_errors());
        let mut watch = Watch::over_kind(cluster, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        let is_back = |service: &Service| selector(service) == labels("blue");
        cluster.until("shop", "switched back", is_back).await;
        watch.dies_and_starts_again(cluster).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(last(&alerts).0, Phase::Restored, "{}", last(&alerts).1);
        let service: Service = cluster.api().get("shop").await.unwrap();
        assert!(is_back(&service));
        let steps = steps(&watch).await;
        assert_eq!(steps.len(), 3, "each step ended once: {steps:#?}");
    });
}

/// Two daemons that both believe to lead switch at once, and somebody writes to the Service all the while: each time one of
/// them does it, and the other says so.
#[test]
fn of_two_that_switch_at_once_one_writes() {
    on_cluster(Needs::Pods, async |cluster| {
        let service = blue_serves(cluster).await;
        cluster.patch("green", &json!({ "spec": { "replicas": 2 } })).await;
        cluster.rolled_out("green").await;
        let (mut applied, mut idle) = (0, 0);
        for round in 0..20 {
            let colours = if round % 2 == 0 { ["blue", "green"] } else { ["green", "blue"] };
            let step = switch(cluster, &service, colours).await;
            let annotation = json!({ "metadata": { "annotations": { "round": round.to_string() } } });
            let services = cluster.api::<Service>();
            let (params, patch) = (PatchParams::default(), Patch::Merge(annotation));
            let hands = [Hands::default(), Hands::default()];
            let (workload, limit) = ("shop".into(), Span::from_secs(30));
            let (first, second, annotated) = tokio::join!(
                hands[0].execute(&workload, &step, limit),
                hands[1].execute(&workload, &step, limit),
                services.patch("shop", &params, &patch),
            );
            annotated.unwrap();
            for outcome in [first, second] {
                match outcome {
                    Outcome::Applied => applied += 1,
                    Outcome::AlreadyInEffect => idle += 1,
                    other => panic!("{other:?}"),
                }
            }
            let found: Service = cluster.api().get("shop").await.unwrap();
            assert_eq!(selector(&found), labels(colours[1]));
            assert_eq!(found.annotations()["round"], round.to_string());
        }
        assert_eq!((applied, idle), (20, 20));
    });
}

#[test]
fn the_traffic_is_not_given_to_fewer_pods_nor_to_others_nor_against_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        let service = blue_serves(cluster).await;
        cluster.patch("green", &json!({ "spec": { "replicas": 1 } })).await;
        cluster.rolled_out("green").await;
        let step = switch(cluster, &service, ["blue", "green"]).await;
        let execute = async |limit| Hands::default().execute(&"shop".into(), &step, Span::from_secs(limit)).await;
        let few = execute(2).await;
        assert!(matches!(&few, Outcome::TimedOut(why) if why.contains("1 pods") && why.contains("2 serve")), "{few:?}");
        cluster.patch("green", &json!({ "spec": { "replicas": 2 } })).await;
        cluster.set_image("green", "shop:v2").await;
        cluster.until_pods("green", "at another release", all_at("shop:v2", 2)).await;
        let other = execute(2).await;
        assert!(matches!(&other, Outcome::TimedOut(why) if why.contains("which is not of")), "{other:?}");
        let found: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(found.metadata.resource_version, service.metadata.resource_version, "nothing was written");
        select(cluster, json!({ "tier": "web", "version": "red" })).await;
        let human = execute(2).await;
        assert!(matches!(&human, Outcome::Conflict(why) if why.contains("somebody else")), "{human:?}");
    });
}

/// The step that gives the traffic of one colour to the other.
async fn switch(cluster: &Cluster, service: &Service, [from, to]: [&str; 2]) -> StepKind {
    let found: Deployment = cluster.api().get(to).await.unwrap();
    let service = Pin { name: service.name_any(), uid: service.uid().expect("it exists") };
    StepKind::SwitchService {
        object: object(&found, cluster),
        to: cluster.hash(to).await.as_str().into(),
        switch: Box::new(Switch { service, before: labels(from), after: labels(to) }),
    }
}

/// What the watch of the Service shows is of before the switch, for longer than the proof takes.
#[test]
fn a_watch_that_is_silent_over_the_switch_is_not_taken_for_somebody_who_undid_it() {
    on_cluster(Needs::Pods, async |cluster| {
        let before = blue_serves(cluster).await;
        let proxy = Proxy::before(cluster.client()).await;
        let (place, policy) = policy("", &on_errors().replace("stable_for = \"2s\"", "stable_for = \"15s\""));
        let behind = cluster.with(proxy.path().to_owned());
        let mut watch = Watch::over_kind(&behind, &place, &policy).await;
        green_gets_a_bad_release(cluster).await;
        watch.until("suspicious", async |watch| !watch.alerts().is_empty()).await;
        // They have just begun anew, and stay as they are for half a minute.
        proxy.cut();
        let begun = Instant::now();
        let open = async |_: &Watch| proxy.seen(Ask::Watch, "services").iter().any(|seen| seen.at > begun);
        watch.until("watching anew", open).await;
        proxy.fall_silent();
        let alerts = watch.told_to_the_end().await;
        assert_eq!(last(&alerts).0, Phase::Restored, "{}", last(&alerts).1);
        let after: Service = cluster.api().get("shop").await.unwrap();
        assert_eq!(after.spec, before.spec);
        let switches =
            steps(&watch).await.into_iter().filter(|(step, _)| matches!(step, StepKind::SwitchService { .. }));
        assert_eq!(switches.count(), 1);
    });
}
