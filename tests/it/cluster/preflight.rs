//! A look at the place that fails for a moment is made again at once: it holds no rollback.

use axum::http::StatusCode;
use rollbackd::domain::incident::alert::Phase;

use super::namespace::{Needs, on_cluster};
use super::proxy::{Ask, Fault, Proxy, status};
use super::rolling::{on_errors, template};
use super::watch::Watch;

#[test]
fn a_server_that_fails_while_a_plan_is_looked_over_holds_nothing() {
    on_cluster(Needs::Pods, async |cluster| {
        cluster.deploy("shop", 2, "shop:v1").await;
        let before = cluster.rolled_out("shop").await;
        let proxy = Proxy::before(cluster.client()).await;
        let mut watch = Watch::over(&cluster.with(proxy.path().to_owned()), &on_errors()).await;
        let failure = |code: StatusCode| Fault::Answer(code, status(code, "InternalError", "etcd has no leader"));
        let [internal, unavailable] = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE].map(failure);
        // Rights are asked for only where the rehearsal fails. Whoever follows the workload looks at it as well.
        proxy.next(Ask::Get, "selfsubjectaccessreviews", [Fault::LostAnswer]);
        proxy.next(Ask::Get, "deployments", [unavailable, internal.clone(), internal]);
        cluster.set_image("shop", "shop:v2-errors40").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert!(proxy.is_through(), "a fault did not come to pass");
        assert!(alerts.iter().all(|alert| alert.phase != Phase::Held), "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
    });
}
