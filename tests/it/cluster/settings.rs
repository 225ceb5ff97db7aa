//! ConfigMaps go back with the release that names them, and what a human wrote since stays.

use std::sync::Arc;

use axum::http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rollbackd::act::Hands;
use rollbackd::cluster::Clients;
use rollbackd::cluster::settings::{Content, Keyring};
use rollbackd::cluster::vault::Vault;
use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::policy::{ClusterObject, ObjectKind};
use rollbackd::domain::response::plan::{Outcome, StepKind};
use rollbackd::domain::settings::{ContentId, Setting, SettingKind, ToKeep};
use rollbackd::domain::time::Span;
use rollbackd::engine::ports::{Actuator, Shelf};
use rollbackd::store::{Books, Store};
use serde_json::{Value, json};

use super::manifests::Account;
use super::namespace::{Cluster, Needs, deployment, on_cluster};
use super::proxy::{Ask, Fault, Proxy, status};
use super::rolling::{on_errors, template};
use super::watch::Watch;

/// Said before it is said which workload it is.
const WITH_MAPS: &str = "keep = [\"configmaps\"], deployment";

/// A Deployment whose container does what a ConfigMap says.
pub(super) fn shop(image: &str, map: &str) -> Value {
    naming(deployment("shop", 2, image), map)
}

/// The same of any other.
pub(super) fn naming(mut deployment: Value, map: &str) -> Value {
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([{ "configMapRef": { "name": map } }]);
    deployment
}

pub(super) async fn create(cluster: &Cluster, name: &str, behaviour: &str) {
    let map = json!({ "metadata": { "name": name }, "data": { "BEHAVIOUR": behaviour } });
    cluster.create::<ConfigMap>(map).await;
}

/// As `kubectl apply` does with another file.
pub(super) async fn change(cluster: &Cluster, name: &str, behaviour: &str) {
    let patch = json!({ "data": { "BEHAVIOUR": behaviour } });
    let maps = cluster.api::<ConfigMap>();
    maps.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn release(cluster: &Cluster, image: &str, map: &str) {
    let shop = shop(image, map);
    // Lists of sources are not merged but replaced.
    let patch =
        json!({ "spec": { "template": { "spec": { "containers": shop["spec"]["template"]["spec"]["containers"] } } } });
    cluster.patch("shop", &patch).await;
}

pub(super) async fn behaviour(cluster: &Cluster, name: &str) -> Option<String> {
    let map = cluster.api::<ConfigMap>().get_opt(name).await.unwrap()?;
    map.data?.remove("BEHAVIOUR")
}

fn give(object: &ClusterObject, setting: &Setting, (expect, content): (Option<ContentId>, &ContentId)) -> StepKind {
    StepKind::RestoreSetting {
        object: object.clone(),
        setting: setting.clone(),
        expect,
        content: content.clone(),
        release: "v1".into(),
        unless_at: None,
    }
}

/// A daemon that knows the good release and what it names.
async fn watch(with: &Cluster) -> Watch {
    watch_in(with, WITH_MAPS, &on_errors()).await
}

/// The same with more said before the workload's name, and more keys for it.
pub(super) async fn watch_in(with: &Cluster, place: &str, more: &str) -> Watch {
    let mut watch = Watch::over_kind(with, place, more).await;
    let is_kept = async |watch: &Watch| {
        let view = watch.view().await;
        view["releases"].as_array().into_iter().flatten().any(|release| release["settings"].is_array())
    };
    watch.until("keeping what the release names", is_kept).await;
    watch
}

#[test]
fn a_configmap_that_was_changed_with_the_release_goes_back_with_it() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &["configmaps"]).await;
        create(cluster, "shop-config", "rate20").await;
        cluster.create::<Deployment>(shop("shop:v1", "shop-config")).await;
        let before = cluster.rolled_out("shop").await;
        let mut watch = watch(&cluster.with(account.kubeconfig())).await;
        change(cluster, "shop-config", "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("rate20"));
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        let started = alerts.iter().find(|alert| alert.phase == Phase::Started).unwrap();
        let steps =
            ["give ConfigMap shop-config in ", "the template of "].map(|part| started.reason.find(part).unwrap());
        assert!(steps[0] < steps[1], "the ConfigMap goes first: {}", started.reason);
    });
}

/// The workload itself is nobody's.
#[test]
fn a_configmap_that_a_gitops_tool_would_write_again_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        create(cluster, "shop-config", "rate20").await;
        let mark = json!({ "argocd.argoproj.io/tracking-id": "web:/ConfigMap:prod/shop-config" });
        let patch = Patch::Merge(json!({ "metadata": { "annotations": mark } }));
        cluster.api::<ConfigMap>().patch("shop-config", &PatchParams::default(), &patch).await.unwrap();
        cluster.create::<Deployment>(shop("shop:v1", "shop-config")).await;
        cluster.rolled_out("shop").await;
        let mut watch = watch(cluster).await;
        change(cluster, "shop-config", "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let is_held = async |watch: &Watch| {
            let whose = "shop-config: Argo CD Application web writes it";
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(whose))
        };
        watch.until("held", is_held).await;
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("errors40"));
    });
}

/// Once it is not named there any more, it goes back.
#[test]
fn a_configmap_that_another_workload_names_as_well_is_left_to_a_human() {
    on_cluster(Needs::Pods, async |cluster| {
        let account = Account::install(cluster, &["configmaps"]).await;
        create(cluster, "shop-config", "rate20").await;
        cluster.create::<Deployment>(shop("shop:v1", "shop-config")).await;
        cluster.create::<Deployment>(naming(deployment("other", 0, "shop:v1"), "shop-config")).await;
        cluster.rolled_out("shop").await;
        let mut watch = watch(&cluster.with(account.kubeconfig())).await;
        change(cluster, "shop-config", "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let whose = format!("deployment {}/other names ConfigMap shop-config as well", cluster.namespace());
        let is_held = async |watch: &Watch| {
            watch.alerts().iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(&whose))
        };
        watch.until("held", is_held).await;
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("errors40"));
        let plan: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop/plan").await).unwrap();
        let told = |need: &Value| need["need"] == "settings" && need["is"] == "no" && need.to_string().contains(&whose);
        assert!(plan["readiness"].as_array().unwrap().iter().any(told), "{plan:#}");
        cluster.api::<Deployment>().delete("other", &DeleteParams::default()).await.unwrap();
        let is_restored = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Restored);
        watch.until("restored", is_restored).await;
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("rate20"));
    });
}

/// Which there are is not known then.
#[test]
fn each_right_on_configmaps_that_may_not_be_seen_is_named() {
    on_cluster(Needs::Api, async |cluster| {
        cluster.deploy("shop", 0, "shop:v1").await;
        let account = Account::install(cluster, &[]).await;
        let mut watch = Watch::begin(&cluster.with(account.kubeconfig()), WITH_MAPS, &on_errors()).await;
        let are_named = async |watch: &Watch| {
            let log = watch.log();
            let is_named =
                |verb: &&str| log.contains(&format!("may not {verb} configmaps in {}:", cluster.namespace()));
            ["create", "get", "list", "patch", "watch"].iter().all(is_named)
        };
        watch.until("naming each", are_named).await;
    });
}

#[test]
fn a_configmap_that_was_deleted_is_made_again() {
    on_cluster(Needs::Pods, async |cluster| {
        create(cluster, "shop-1", "rate20").await;
        create(cluster, "shop-2", "errors40-after6s").await;
        cluster.create::<Deployment>(shop("shop:v1", "shop-1")).await;
        cluster.rolled_out("shop").await;
        let mut watch = watch(cluster).await;
        release(cluster, "shop:v2", "shop-2").await;
        cluster.api::<ConfigMap>().delete("shop-1", &DeleteParams::default()).await.unwrap();
        let stored = async |watch: &Watch| {
            let plan: Value = serde_json::from_str(&watch.ask("/api/v1/workloads/shop/plan").await).unwrap_or_default();
            let says = |need: &Value| need["need"] == "settings" && need["is"] == "yes";
            let makes = plan["plan"].to_string().contains("restore-setting");
            makes && plan["readiness"].as_array().into_iter().flatten().any(says)
        };
        watch.until("ready to make it again", stored).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(behaviour(cluster, "shop-1").await.as_deref(), Some("rate20"));
        assert_eq!(
            behaviour(cluster, "shop-2").await.as_deref(),
            Some("errors40-after6s"),
            "what it does not name stays"
        );
    });
}

#[test]
fn what_a_human_wrote_in_the_middle_of_it_stays_and_the_rollback_is_held() {
    on_cluster(Needs::Pods, async |cluster| {
        create(cluster, "shop-config", "rate20").await;
        cluster.create::<Deployment>(shop("shop:v1", "shop-config")).await;
        cluster.rolled_out("shop").await;
        let mut watch = watch(cluster).await;
        change(cluster, "shop-config", "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let bad = cluster.rolled_out("shop").await;
        // What is paused holds, so that there is time to write.
        cluster.patch("shop", &json!({ "spec": { "paused": true } })).await;
        let held = async |watch: &Watch| watch.view().await["incident"]["hold"].to_string().contains("is paused");
        watch.until("held", held).await;
        change(cluster, "shop-config", "rate40").await;
        cluster.patch("shop", &json!({ "spec": { "paused": false } })).await;
        let told =
            async |watch: &Watch| watch.view().await["incident"]["hold"].to_string().contains("somebody changed it");
        watch.until("held for what a human wrote", told).await;
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("rate40"));
        assert_eq!(template(&cluster.api::<Deployment>().get("shop").await.unwrap()), template(&bad));
    });
}

/// In its middle it is killed, and goes on.
#[test]
fn where_the_template_is_refused_the_configmap_says_again_what_it_said() {
    on_cluster(Needs::Pods, async |cluster| {
        create(cluster, "shop-config", "rate20").await;
        cluster.create::<Deployment>(shop("shop:v1", "shop-config")).await;
        cluster.rolled_out("shop").await;
        let proxy = Proxy::before(cluster.client()).await;
        let behind = cluster.with(proxy.path().to_owned());
        let mut watch = watch(&behind).await;
        let refused = || {
            let no = status(StatusCode::FORBIDDEN, "Forbidden", "the template stays as it is");
            Fault::Answer(StatusCode::FORBIDDEN, no)
        };
        // Each attempt is refused, and once more what was under way when the daemon was killed.
        proxy.next(Ask::Write, "deployments", [refused(), refused(), refused(), refused()]);
        change(cluster, "shop-config", "errors40").await;
        cluster.set_image("shop", "shop:v2").await;
        let bad = cluster.rolled_out("shop").await;
        let went_back = async |_: &Watch| behaviour(cluster, "shop-config").await.as_deref() == Some("rate20");
        watch.until("put back", went_back).await;
        watch.dies_and_starts_again(&behind).await;
        let told = async |watch: &Watch| watch.alerts().iter().any(|alert| alert.phase == Phase::Escalated);
        watch.until("handed over", told).await;
        let alerts = watch.alerts();
        let reason = &alerts.iter().find(|alert| alert.phase == Phase::Escalated).unwrap().reason;
        assert!(reason.contains("its settings are as before"), "{reason}");
        assert!(proxy.seen(Ask::Write, "deployments").len() >= 2);
        assert_eq!(behaviour(cluster, "shop-config").await.as_deref(), Some("errors40"));
        assert_eq!(template(&cluster.api::<Deployment>().get("shop").await.unwrap()), template(&bad));
    });
}

#[test]
fn what_belongs_to_the_release_in_place_is_not_put_forward_and_what_was_written_over_can_be() {
    on_cluster(Needs::Api, async |cluster| {
        create(cluster, "m", "errors40").await;
        cluster.create::<Deployment>(shop("shop:v1", "m")).await;
        let release = cluster.hash("shop").await;
        let dir = tempfile::tempdir().unwrap();
        let books = Arc::new(Books::alone(Store::open(dir.path()).unwrap()));
        let hands = Hands::default().with_shelf(Arc::clone(&books) as Arc<dyn Shelf>, Keyring::default());
        let object = ClusterObject {
            context: None,
            namespace: cluster.namespace().to_owned(),
            kind: ObjectKind::Deployment,
            name: "shop".to_owned(),
            uid: cluster.api::<Deployment>().get("shop").await.unwrap().metadata.uid.unwrap(),
        };
        let setting = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
        let [bad, good] = ["errors40", "rate20"].map(|behaviour| Content {
            data: [("BEHAVIOUR".to_owned(), behaviour.to_owned())].into(),
            ..Content::default()
        });
        books.put("shop".into(), [(good.id(), good.encode())].into(), None).await.unwrap();
        let execute = async |step: StepKind| hands.execute(&"shop".into(), &step, Span::from_secs(10)).await;
        assert_eq!(execute(give(&object, &setting, (Some(bad.id()), &good.id()))).await, Outcome::Applied);
        assert_eq!(behaviour(cluster, "m").await.as_deref(), Some("rate20"));
        let forward = |at: &str| match give(&object, &setting, (Some(good.id()), &bad.id())) {
            StepKind::RestoreSetting { object, setting, expect, content, release, .. } => {
                StepKind::RestoreSetting { object, setting, expect, content, release, unless_at: Some(at.into()) }
            }
            other => other,
        };
        let fenced = execute(forward(&release)).await;
        assert!(matches!(&fenced, Outcome::Conflict(why) if why.contains("to which it belongs")), "{fenced:?}");
        assert_eq!(execute(forward("gone")).await, Outcome::Applied);
        assert_eq!(behaviour(cluster, "m").await.as_deref(), Some("errors40"));
    });
}

#[test]
fn a_write_is_fenced_by_what_was_there_and_one_that_is_immutable_is_told() {
    on_cluster(Needs::Api, async |cluster| {
        create(cluster, "m", "rate20").await;
        let dir = tempfile::tempdir().unwrap();
        let books = Arc::new(Books::alone(Store::open(dir.path()).unwrap()));
        let hands = Hands::default().with_clients(Clients::default()).with_shelf(books, Keyring::default());
        let object = ClusterObject {
            context: None,
            namespace: cluster.namespace().to_owned(),
            kind: ObjectKind::Deployment,
            name: "shop".to_owned(),
            uid: "u".to_owned(),
        };
        let setting = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
        let now = async || Content::of(&cluster.api::<ConfigMap>().get("m").await.unwrap()).id();
        let good = now().await;
        let wanted = ToKeep {
            object: object.clone(),
            release: "v1".into(),
            settings: [(setting.clone(), Some(good.clone()))].into(),
            needed: [good.clone()].into(),
        };
        assert_eq!(hands.keep(&"shop".into(), &wanted).await, Ok([].into()));
        let restore = async |expect: Option<ContentId>| {
            let step = give(&object, &setting, (expect, &good));
            hands.execute(&"shop".into(), &step, Span::from_secs(10)).await
        };
        assert_eq!(restore(None).await, Outcome::AlreadyInEffect);
        change(cluster, "m", "errors40").await;
        let bad = now().await;
        let other = restore(Some(ContentId::new("other"))).await;
        assert!(matches!(&other, Outcome::Conflict(why) if why.contains("somebody changed it")), "{other:?}");
        assert!(matches!(restore(None).await, Outcome::Conflict(_)));
        assert_eq!(now().await, bad);
        assert_eq!(restore(Some(bad.clone())).await, Outcome::Applied);
        assert_eq!(restore(Some(bad.clone())).await, Outcome::AlreadyInEffect);
        let maps = cluster.api::<ConfigMap>();
        maps.delete("m", &DeleteParams::default()).await.unwrap();
        assert_eq!(restore(None).await, Outcome::Applied);
        maps.delete("m", &DeleteParams::default()).await.unwrap();
        let fixed = json!({ "metadata": { "name": "m" }, "data": { "BEHAVIOUR": "errors40" }, "immutable": true });
        let fixed: ConfigMap = serde_json::from_value(fixed).unwrap();
        maps.create(&PostParams::default(), &fixed).await.unwrap();
        let told = restore(Some(bad)).await;
        assert!(matches!(&told, Outcome::Denied(why) if why.contains("is immutable")), "{told:?}");
    });
}

#[test]
fn a_secret_is_kept_sealed_and_goes_back_likewise() {
    on_cluster(Needs::Api, async |cluster| {
        let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "hunter2hunter2" } });
        cluster.create::<Secret>(secret).await;
        let dir = tempfile::tempdir().unwrap();
        let books = Arc::new(Books::alone(Store::open(dir.path()).unwrap()));
        let keyring = Keyring::new(Some(Arc::new(Vault::new(&"k".repeat(40)).unwrap())));
        let hands = Hands::default().with_shelf(Arc::clone(&books) as Arc<dyn Shelf>, keyring.clone());
        let object = ClusterObject {
            context: None,
            namespace: cluster.namespace().to_owned(),
            kind: ObjectKind::Deployment,
            name: "shop".to_owned(),
            uid: "u".to_owned(),
        };
        let setting = Setting { kind: SettingKind::Secret, name: "s".to_owned() };
        let secrets = cluster.api::<Secret>();
        let now = async || {
            let content = Content::of(&secrets.get("s").await.unwrap());
            keyring.id(SettingKind::Secret, &content).unwrap()
        };
        let good = now().await;
        let wanted = ToKeep {
            object: object.clone(),
            release: "v1".into(),
            settings: [(setting.clone(), Some(good.clone()))].into(),
            needed: [good.clone()].into(),
        };
        assert_eq!(hands.keep(&"shop".into(), &wanted).await, Ok([].into()));
        let kept = books.find("shop".into(), good.clone()).await.unwrap().unwrap();
        for plain in ["hunter2", "aHVudGVyMmh1bnRlcjI"] {
            assert!(!String::from_utf8_lossy(&kept).contains(plain));
        }
        let restore = async |expect: Option<ContentId>| {
            let step = give(&object, &setting, (expect, &good));
            hands.execute(&"shop".into(), &step, Span::from_secs(10)).await
        };
        let other = json!({ "stringData": { "password": "other", "more": "x" } });
        secrets.patch("s", &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
        assert!(matches!(restore(None).await, Outcome::Conflict(_)));
        assert_eq!(restore(Some(now().await)).await, Outcome::Applied);
        assert_eq!(now().await, good);
        secrets.delete("s", &DeleteParams::default()).await.unwrap();
        assert_eq!(restore(None).await, Outcome::Applied);
        assert_eq!(secrets.get("s").await.unwrap().data.unwrap()["password"].0, b"hunter2hunter2");
    });
}
