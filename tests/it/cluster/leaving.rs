//! A workload that is taken out of the policy in the middle of a rollback is not left without its pods.

use axum::http::StatusCode;
use rollbackd::domain::incident::alert::Phase;

use super::namespace::{Cluster, Needs, on_cluster};
use super::proxy::{Ask, Fault, Proxy};
use super::rolling::on_errors;
use super::strategies::all_at;
use super::watch::Watch;

const DEPLOYMENTS: &str = "deployments";

/// A direct rollback that has scaled everything down, and waits for the API server to take the template.
async fn half_way(cluster: &Cluster, proxy: &Proxy) -> Watch {
    cluster.deploy("shop", 2, "shop:v1").await;
    cluster.rolled_out("shop").await;
    let policy = format!("strategy = \"direct\"\n{}", on_errors());
    let mut watch = Watch::over(&cluster.with(proxy.path().to_owned()), &policy).await;
    proxy.next(Ask::Write, DEPLOYMENTS, [Fault::Nothing, Fault::Later(StatusCode::TOO_MANY_REQUESTS, 8)]);
    cluster.set_image("shop", "shop:v2-errors40").await;
    watch.until("half way", async |_| proxy.seen(Ask::Write, DEPLOYMENTS).len() == 2).await;
    watch
}

/// It is at the good release with as many pods as before, and nobody watches it any more.
async fn is_left_whole(cluster: &Cluster, watch: &mut Watch) {
    let alerts = watch.told_to_the_end().await;
    let last = alerts.last().unwrap();
    assert_eq!(last.phase, Phase::Closed, "{alerts:#?}");
    assert!(last.reason.contains("no longer in the policy"), "{}", last.reason);
    cluster.until_pods("shop", "back at v1", all_at("shop:v1", 2)).await;
    watch.until("without it", async |watch| watch.workloads().await == ["other"]).await;
}

#[test]
fn what_leaves_the_policy_half_way_is_made_whole() {
    on_cluster(Needs::Pods, async |cluster| {
        let proxy = Proxy::before(cluster.client()).await;
        let mut watch = half_way(cluster, &proxy).await;
        watch.strike_out();
        watch.hang_up();
        is_left_whole(cluster, &mut watch).await;
        assert_eq!(proxy.seen(Ask::Write, DEPLOYMENTS).len(), 4, "down, the template twice, up");
    });
}

#[test]
fn what_left_the_policy_while_no_daemon_ran_is_made_whole_by_the_next_start() {
    on_cluster(Needs::Pods, async |cluster| {
        let proxy = Proxy::before(cluster.client()).await;
        let mut watch = half_way(cluster, &proxy).await;
        watch.strike_out();
        watch.dies_and_starts_again(&cluster.with(proxy.path().to_owned())).await;
        is_left_whole(cluster, &mut watch).await;
    });
}
