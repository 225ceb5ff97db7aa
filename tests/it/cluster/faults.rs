//! An API server that fails in every way that is known of one: whatever it answers, the good release comes back by one
//! write, and the record says what happened.

use std::time::Duration;

use axum::http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::response::plan::Outcome;
use tokio::time::{Instant, sleep};

use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, on_cluster};
use super::proxy::{Ask, Fault, Proxy, status};
use super::rolling::{BARE, on_errors, template};
use super::watch::Watch;

const BAD: &str = "shop:v2-errors40";
const DEPLOYMENTS: &str = "deployments";

/// A daemon behind a proxy, which knows a good release.
struct Scene<'c> {
    cluster: &'c Cluster,
    proxy: Proxy,
    watch: Watch,
    before: Deployment,
}

impl<'c> Scene<'c> {
    async fn set(cluster: &'c Cluster) -> Self {
        Self::under(cluster, &on_errors()).await
    }

    async fn under(cluster: &'c Cluster, policy: &str) -> Self {
        cluster.deploy("shop", 2, "shop:v1").await;
        let before = cluster.rolled_out("shop").await;
        let proxy = Proxy::before(cluster.client()).await;
        let watch = Watch::over(&cluster.with(proxy.path().to_owned()), policy).await;
        Self { cluster, proxy, watch, before }
    }

    async fn deploy_bad(&self) {
        self.cluster.set_image("shop", BAD).await;
    }

    /// The good release is back by one write, which is all that was ever written.
    async fn until_restored(mut self) -> Told {
        let alerts = self.watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}\n{}", last.summary, self.watch.log());
        assert!(self.proxy.is_through(), "a fault did not come to pass");
        let after = self.cluster.rolled_out("shop").await;
        assert_eq!(template(&after), template(&self.before));
        assert_eq!(after.spec, self.before.spec);
        let written = after.metadata.generation.unwrap() - self.before.metadata.generation.unwrap();
        assert_eq!(written, 2, "the bad release was deployed, and taken back once");
        Told { alerts, records: self.watch.records().await, proxy: self.proxy, log: self.watch.log() }
    }
}

/// What was told of it, and how it came about.
struct Told {
    alerts: Vec<Alert>,
    records: Vec<Record>,
    proxy: Proxy,
    log: String,
}

impl Told {
    /// How each step ended.
    fn outcomes(&self) -> Vec<&Outcome> {
        let finished = self.records.iter().filter_map(|record| match &record.event {
            Event::StepFinished { outcome, .. } => Some(outcome),
            _ => None,
        });
        finished.collect()
    }

    /// In one attempt, whose first step ended so.
    fn is_one_attempt(&self, first: &Outcome) {
        assert_eq!(self.outcomes(), [first, &Outcome::Applied], "{:#?}", self.records);
        let plans = self.records.iter().filter(|record| matches!(record.event, Event::Planned { .. })).count();
        assert_eq!(plans, 1);
    }

    /// What the API server, or the proxy in its place, answered to each write.
    fn answers(&self) -> Vec<Option<u16>> {
        let writes = self.proxy.seen(Ask::Write, DEPLOYMENTS);
        writes.iter().map(|seen| seen.status.map(|status| status.as_u16())).collect()
    }
}

/// The first writes go wrong in these ways; the next one is let through.
async fn after_failed_writes(cluster: &Cluster, faults: Vec<Fault>) -> Told {
    let scene = Scene::set(cluster).await;
    scene.proxy.next(Ask::Write, DEPLOYMENTS, faults);
    scene.deploy_bad().await;
    scene.until_restored().await
}

#[test]
fn a_write_that_is_asked_to_come_later_comes_later() {
    on_cluster(Needs::Pods, async |cluster| {
        let told = after_failed_writes(cluster, vec![Fault::Later(StatusCode::TOO_MANY_REQUESTS, 3)]).await;
        told.is_one_attempt(&Outcome::Applied);
        assert_eq!(told.answers(), [Some(429), Some(200)]);
        let writes = told.proxy.seen(Ask::Write, DEPLOYMENTS);
        assert!(writes[1].at - writes[0].at >= Duration::from_secs(3), "{writes:?}");
    });
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again() {
    on_cluster(Needs::Pods, async |cluster| {
        let failure = |code: StatusCode| Fault::Answer(code, status(code, "InternalError", "etcd has no leader"));
        let faults = vec![
            failure(StatusCode::INTERNAL_SERVER_ERROR),
            failure(StatusCode::SERVICE_UNAVAILABLE),
            failure(StatusCode::GATEWAY_TIMEOUT),
        ];
        let told = after_failed_writes(cluster, faults).await;
        told.is_one_attempt(&Outcome::Applied);
        assert_eq!(told.answers(), [Some(500), Some(503), Some(504), Some(200)]);
    });
}

#[test]
fn a_write_whose_answer_is_lost_is_found_done() {
    on_cluster(Needs::Pods, async |cluster| {
        let told = after_failed_writes(cluster, vec![Fault::LostAnswer]).await;
        told.is_one_attempt(&Outcome::Applied);
        assert_eq!(told.answers(), [None], "it is not written a second time");
    });
}

#[test]
fn a_write_that_is_said_to_have_failed_and_has_not_is_found_done() {
    on_cluster(Needs::Pods, async |cluster| {
        let told = after_failed_writes(cluster, vec![Fault::OtherAnswer(StatusCode::INTERNAL_SERVER_ERROR)]).await;
        told.is_one_attempt(&Outcome::Applied);
        assert_eq!(told.answers(), [Some(500)]);
    });
}

/// The server says no, and what was compared is as it was: that is its word, and no attempt more than the ladder has.
async fn is_left_to_a_human(cluster: &Cluster, code: StatusCode, reason: &str, message: &str) -> Vec<Option<u16>> {
    let scene = Scene::set(cluster).await;
    let refusal = Fault::Answer(code, status(code, reason, message));
    scene.proxy.next(Ask::Write, DEPLOYMENTS, std::iter::repeat_n(refusal, 100));
    scene.deploy_bad().await;
    let Scene { proxy, mut watch, before, .. } = scene;
    let alerts = watch.told_to_the_end().await;
    let last = alerts.last().unwrap();
    assert_eq!(last.phase, Phase::Escalated, "{}", last.summary);
    assert!(last.reason.contains(message), "{}", last.reason);
    let after: Deployment = cluster.api().get("shop").await.unwrap();
    assert_eq!(after.metadata.generation.unwrap() - before.metadata.generation.unwrap(), 1, "nothing was written");
    let denied = watch.records().await.into_iter().filter(|record| {
        matches!(&record.event, Event::StepFinished { outcome: Outcome::Denied(why), .. } if why.contains(message))
    });
    assert!(denied.count() >= 1);
    proxy.seen(Ask::Write, DEPLOYMENTS).iter().map(|seen| seen.status.map(|status| status.as_u16())).collect()
}

#[test]
fn a_write_that_admission_refuses_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        let message = "admission webhook \"policy.example.com\" denied the request: no image of v1";
        let answers = is_left_to_a_human(cluster, StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).await;
        assert_eq!(answers, [Some(422), Some(422)], "one write an attempt");
    });
}

#[test]
fn a_write_that_is_not_valid_any_more_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        let message = "Deployment.apps \"shop\" is invalid: spec.template.spec: Forbidden";
        let answers = is_left_to_a_human(cluster, StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).await;
        assert_eq!(answers, [Some(422), Some(422)], "one write an attempt");
    });
}

/// What the server says when another write came first, or a comparison fails. Neither is taken for a write that was made: with
/// the first it is made again at once, and the second, with nothing changed that was compared, is a refusal.
#[test]
fn a_write_that_lost_to_another_one_is_made_anew() {
    on_cluster(Needs::Pods, async |cluster| {
        let [conflict, missed] = [
            (StatusCode::CONFLICT, "Conflict", "the object has been modified; please apply your changes"),
            (StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "testing path /metadata/generation value failed"),
        ]
        .map(|(code, reason, message)| Fault::Answer(code, status(code, reason, message)));
        let scene = Scene::set(cluster).await;
        scene.proxy.next(Ask::Write, DEPLOYMENTS, [conflict, missed]);
        scene.deploy_bad().await;
        let told = scene.until_restored().await;
        assert_eq!(told.answers(), [Some(409), Some(422), Some(200)]);
        let outcomes = told.outcomes();
        let [Outcome::Denied(why), Outcome::Applied, Outcome::Applied] = &outcomes[..] else { panic!("{outcomes:#?}") };
        assert!(why.contains("/metadata/generation"), "{why}");
    });
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_not_asked_to_list_or_to_watch() {
    on_cluster(Needs::Pods, async |cluster| {
        const SECONDS: u64 = 4;
        let scene = Scene::set(cluster).await;
        let later = |status| Fault::Later(status, SECONDS);
        let (too_many, unavailable) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE);
        scene.proxy.next(Ask::Watch, DEPLOYMENTS, [later(too_many), later(unavailable), Fault::GoneInStream]);
        scene.proxy.next(Ask::List, DEPLOYMENTS, [later(unavailable), later(too_many)]);
        let begun = Instant::now();
        scene.proxy.cut();
        let is_well = |ask: Ask| {
            let seen = scene.proxy.seen(ask, DEPLOYMENTS);
            seen.last().is_some_and(|seen| seen.status == Some(StatusCode::OK))
        };
        while !(scene.proxy.is_through() && is_well(Ask::List) && is_well(Ask::Watch)) {
            assert!(begun.elapsed() < PATIENCE, "{}", scene.watch.log());
            sleep(LOOK_EVERY).await;
        }
        scene.deploy_bad().await;
        let told = scene.until_restored().await;
        for ask in [Ask::Watch, Ask::List] {
            let seen = told.proxy.seen(ask, DEPLOYMENTS);
            let refused = seen
                .iter()
                .enumerate()
                .filter(|(_, seen)| seen.status.is_some_and(|status| status == too_many || status == unavailable));
            let refused: Vec<usize> = refused.map(|(number, _)| number).collect();
            assert_eq!(refused.len(), 2, "{seen:?}");
            for number in refused {
                let Some(next) = seen.get(number + 1) else { panic!("never asked again: {seen:?}") };
                assert!(next.at - seen[number].at >= Duration::from_secs(SECONDS), "{seen:?}");
            }
        }
    });
}

/// Until the watches are begun anew nothing is seen of the release, which is then taken back like any other.
#[test]
fn a_watch_that_is_silent_before_the_bad_release_only_takes_time() {
    on_cluster(Needs::Pods, async |cluster| {
        let scene = Scene::under(cluster, BARE).await;
        scene.proxy.fall_silent();
        // Its pods are never ready for long, and so those of the good one stay, where they are seen.
        cluster.set_image("shop", "shop:v2-crash").await;
        let told = scene.until_restored().await;
        told.is_one_attempt(&Outcome::Applied);
    });
}

/// The pods of the release before are gone from where they were, which says nothing of it, and nothing of the one in place.
#[test]
fn a_watch_that_is_silent_while_all_pods_are_replaced_condemns_nobody() {
    on_cluster(Needs::Pods, async |cluster| {
        let policy = "health = { port = 8080, expect = { status = \"Healthy\" } }\n\
                      [workload.shop.verify]\nstable_for = \"2s\"\n\
                      [[workload.shop.trigger]]\nsignal = \"health\"\nabove = \"50%\"\nfor = \"3s\"\n";
        let mut scene = Scene::under(cluster, policy).await;
        // None of the watches is young.
        sleep(Duration::from_secs(6)).await;
        scene.proxy.fall_silent();
        scene.cluster.set_image("shop", "shop:v2").await;
        let after = cluster.rolled_out("shop").await;
        let release = cluster.hash("shop").await;
        let is_good = async |watch: &Watch| {
            let view = watch.view().await;
            let good = &view["releases"].as_array().cloned().unwrap_or_default();
            good.iter().any(|known| known["revision"] == release.as_str() && known["known_good_since"].is_string())
        };
        scene.watch.until("known good", is_good).await;
        let told: Vec<_> = scene.watch.alerts().iter().map(|alert| (alert.phase, alert.summary.clone())).collect();
        assert!(told.iter().all(|(phase, _)| matches!(phase, Phase::Suspected | Phase::Closed)), "{told:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&after));
    });
}

#[test]
fn a_watch_that_falls_silent_when_a_fault_is_suspected_changes_nothing() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut scene = Scene::set(cluster).await;
        scene.deploy_bad().await;
        scene.watch.until("suspicious", async |watch| !watch.alerts().is_empty()).await;
        scene.proxy.fall_silent();
        let told = scene.until_restored().await;
        told.is_one_attempt(&Outcome::Applied);
    });
}

#[test]
fn a_watch_that_falls_silent_after_the_write_changes_nothing() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut scene = Scene::set(cluster).await;
        scene.deploy_bad().await;
        let planned = |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Started);
        scene.watch.until("begun", async |watch| planned(watch)).await;
        scene.proxy.fall_silent();
        let told = scene.until_restored().await;
        told.is_one_attempt(&Outcome::Applied);
    });
}

#[test]
fn a_watch_that_can_not_go_on_begins_anew() {
    on_cluster(Needs::Pods, async |cluster| {
        let scene = Scene::set(cluster).await;
        let gone = status(StatusCode::GONE, "Expired", "too old resource version");
        for resource in [DEPLOYMENTS, "replicasets", "pods"] {
            let gone = Fault::Answer(StatusCode::GONE, gone.clone());
            scene.proxy.next(Ask::Watch, resource, [gone.clone(), Fault::GoneInStream, gone.clone()]);
            scene.proxy.next(Ask::List, resource, [gone]);
        }
        scene.proxy.cut();
        scene.deploy_bad().await;
        let told = scene.until_restored().await;
        told.is_one_attempt(&Outcome::Applied);
        assert!(told.proxy.seen(Ask::List, DEPLOYMENTS).len() >= 3, "{}", told.log);
    });
}

/// A list that shows what was before the rollback, and even before the bad release, long after both.
#[test]
fn a_list_that_is_stale_is_not_believed() {
    on_cluster(Needs::Pods, async |cluster| {
        let mut scene = Scene::set(cluster).await;
        scene.deploy_bad().await;
        let detected = |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Started);
        scene.watch.until("begun", async |watch| detected(watch)).await;
        for resource in [DEPLOYMENTS, "replicasets", "pods"] {
            scene.proxy.next(Ask::Watch, resource, [Fault::GoneInStream]);
            scene.proxy.next(Ask::List, resource, [Fault::AsAtFirst, Fault::AsAtFirst]);
        }
        scene.proxy.cut();
        let told = scene.until_restored().await;
        told.is_one_attempt(&Outcome::Applied);
        let ends = told.alerts.iter().filter(|alert| matches!(alert.phase, Phase::Closed | Phase::Failed));
        assert_eq!(ends.count(), 0);
    });
}
