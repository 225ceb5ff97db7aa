//! The Lease, on a real API server: one holder at a time, whatever happens to it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use rollbackd::clock::Clock;
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::{Leadership, Role};
use rollbackd::lease::{Candidate, Tenure, Terms};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::namespace::{Cluster, Needs, PATIENCE, on_cluster};

const NAME: &str = "rollbackd";
const DURATION: Span = Span::from_secs(3);
/// Time between two looks at who leads: short, so that two at once would be seen.
const LOOK: Duration = Duration::from_millis(2);

/// Somebody who runs for the lease.
struct Runner {
    tenure: Arc<Tenure>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Runner {
    fn start(cluster: &Cluster, me: &str) -> Self {
        let terms = Terms { namespace: cluster.namespace().to_owned(), name: NAME.to_owned(), duration: DURATION };
        let (candidate, tenure) = Candidate::new(cluster.client().clone(), &terms, me, Clock::start(None));
        let stop = CancellationToken::new();
        Self { tenure, task: tokio::spawn(candidate.run(stop.clone())), stop }
    }

    fn leads(&self) -> bool {
        matches!(self.tenure.role(), Role::Leader { .. })
    }
}

/// Looks on until it is so; never do two lead at once.
async fn until(runners: &[&Runner], what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        let leading = runners.iter().filter(|runner| runner.leads()).count();
        assert!(leading <= 1, "{leading} lead at once");
        assert!(Instant::now() < deadline, "not {what}");
        sleep(LOOK).await;
    }
}

async fn holder(cluster: &Cluster) -> Option<String> {
    let lease: Lease = cluster.api().get(NAME).await.unwrap();
    lease.spec.and_then(|spec| spec.holder_identity)
}

/// One that leads, and one that stands by and has seen so.
async fn two(cluster: &Cluster) -> (Runner, Runner) {
    let first = Runner::start(cluster, "first");
    until(&[&first], "leading", || first.leads()).await;
    let second = Runner::start(cluster, "second");
    let sees = || second.tenure.role() == Role::Standby { leader: Some("first".to_owned()) };
    until(&[&first, &second], "standing by", sees).await;
    (first, second)
}

#[test]
fn a_lease_that_is_given_back_is_taken_within_a_look() {
    on_cluster(Needs::Api, async |cluster| {
        let (first, second) = two(cluster).await;
        assert_eq!(holder(cluster).await.as_deref(), Some("first"));
        first.stop.cancel();
        until(&[&first, &second], "handed over", || second.leads()).await;
        first.task.await.unwrap();
        assert_eq!(holder(cluster).await.as_deref(), Some("second"));
        let lease: Lease = cluster.api().get(NAME).await.unwrap();
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
    });
}

#[test]
fn a_lease_that_is_not_renewed_any_more_is_taken_after_its_duration() {
    on_cluster(Needs::Api, async |cluster| {
        let (first, second) = two(cluster).await;
        first.task.abort();
        let gone = Instant::now();
        until(&[&first, &second], "taken", || second.leads()).await;
        let renewals = Duration::from(DURATION) / 3;
        assert!(gone.elapsed() > Duration::from(DURATION) - renewals - Duration::from_millis(200));
        assert!(!first.leads(), "what nobody renews is over");
    });
}

#[test]
fn a_lease_that_somebody_took_is_lost_to_its_holder() {
    on_cluster(Needs::Api, async |cluster| {
        let (first, second) = two(cluster).await;
        let thief = json!({ "spec": { "holderIdentity": "thief", "renewTime": "2020-01-01T00:00:00.000000Z" } });
        cluster.api::<Lease>().patch(NAME, &PatchParams::default(), &Patch::Merge(&thief)).await.unwrap();
        until(&[&first, &second], "lost", || !first.leads()).await;
        // However old its time looks, it is taken only once it was seen unchanged for long enough.
        until(&[&first, &second], "taken back", || first.leads() || second.leads()).await;
    });
}

#[test]
fn a_lease_that_is_deleted_is_made_again_by_its_holder() {
    on_cluster(Needs::Api, async |cluster| {
        let (first, second) = two(cluster).await;
        cluster.api::<Lease>().delete(NAME, &DeleteParams::default()).await.unwrap();
        let made = cluster.until::<Lease>(NAME, "made again", |lease| lease.metadata.uid.is_some());
        let runners = [&first, &second];
        let watched = until(&runners, "held throughout", || !second.leads());
        let (made, ()) = tokio::join!(made, watched);
        assert_eq!(made.spec.unwrap().holder_identity.as_deref(), Some("first"));
        assert!(first.leads() && !second.leads());
    });
}

/// What others keep in the Lease stays, and a change of theirs costs nobody the lead.
#[test]
fn a_label_of_somebody_elses_stays() {
    on_cluster(Needs::Api, async |cluster| {
        let (first, _second) = two(cluster).await;
        let label = json!({ "metadata": { "labels": { "team": "web" } } });
        let labelled =
            cluster.api::<Lease>().patch(NAME, &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        let renewed = |lease: &Lease| {
            lease.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("team"))
                && lease.spec.as_ref().unwrap().renew_time != labelled.spec.as_ref().unwrap().renew_time
        };
        cluster.until(NAME, "renewed with its label", renewed).await;
        assert_eq!(first.tenure.role(), Role::Leader { term: 1 });
    });
}
