//! Workloads that Argo CD or Flux own: found, named, and left alone by default; where the policy says so the owner is
//! paused for a rollback and put back afterwards, and nobody is fought twice.
//!
//! The owners' objects are real ones of minimal definitions; what their controllers would do is done by [`Repository`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::policy::GitopsTool;
use rollbackd::domain::response::plan::{Outcome, StepKind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::manifests::{Account, apply, objects};
use super::namespace::{Cluster, LOOK_EVERY, Needs, PATIENCE, deployment, on_cluster};
use super::rolling::{on_errors, template};
use super::watch::Watch;

const BAD: &str = "shop:v2-errors40";

/// How Argo CD is told to sync by itself.
fn automated() -> Value {
    json!({ "prune": true, "selfHeal": true })
}

/// Group, version, kind and plural of what a tool owns workloads by.
const fn kind_of(tool: GitopsTool) -> (&'static str, &'static str, &'static str, &'static str) {
    match tool {
        GitopsTool::ArgoCd => ("argoproj.io", "v1alpha1", "Application", "applications"),
        GitopsTool::FluxKustomization => ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
        GitopsTool::FluxHelmRelease => ("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
    }
}

fn api_of(client: &Client, tool: GitopsTool, namespace: &str) -> Api<DynamicObject> {
    let (group, version, kind, plural) = kind_of(tool);
    let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(client.clone(), namespace, &kind)
}

/// The definition of a tool's objects, which takes any content. As theirs: Argo CD's has no part for its status.
async fn define(cluster: &Cluster, tool: GitopsTool) {
    let (group, version, kind, plural) = kind_of(tool);
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let schema = json!({ "type": "object", "properties": { "spec": any, "status": any, "operation": any } });
    let served = json!({ "name": version, "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let name = format!("{plural}.{group}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": name },
        "spec": {
            "group": group, "scope": "Namespaced", "versions": [served],
            "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() },
        },
    });
    apply(cluster.client(), &definition, "").await;
    let established = await_condition(cluster.everywhere(), &name, is_crd_established());
    timeout(PATIENCE, established).await.expect("the definition is taken up").unwrap();
}

/// An owner of the Deployment `shop`: a tool's object called `web`, in the test's namespace.
struct Owner<'c> {
    cluster: &'c Cluster,
    tool: GitopsTool,
    api: Api<DynamicObject>,
}

impl<'c> Owner<'c> {
    async fn create(cluster: &'c Cluster, tool: GitopsTool) -> Self {
        define(cluster, tool).await;
        let (group, version, kind, _) = kind_of(tool);
        let spec = match tool {
            GitopsTool::ArgoCd => json!({ "project": "default", "syncPolicy": { "automated": automated() } }),
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => json!({ "interval": "1m" }),
        };
        let object = json!({
            "apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": { "name": "web" }, "spec": spec,
        });
        let mut object = object;
        object["metadata"]["namespace"] = cluster.namespace().into();
        apply(cluster.client(), &object, cluster.namespace()).await;
        Self { cluster, tool, api: api_of(cluster.client(), tool, cluster.namespace()) }
    }

    /// The mark that the tool leaves on what it owns.
    fn marks(&self) -> Value {
        let namespace = self.cluster.namespace();
        match self.tool {
            GitopsTool::ArgoCd => {
                let id = format!("{namespace}_web:apps/Deployment:{namespace}/shop");
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": id } })
            }
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => {
                let (group, ..) = kind_of(self.tool);
                let mark = |key: &str| format!("{group}/{key}");
                json!({ "labels": { "app": "shop", mark("name"): "web", mark("namespace"): namespace } })
            }
        }
    }

    /// What the daemon calls it.
    fn told(&self) -> String {
        format!("{} {}/web", self.tool.as_str(), self.cluster.namespace())
    }

    async fn read(&self) -> DynamicObject {
        self.api.get("web").await.unwrap()
    }

    async fn is_paused(&self) -> bool {
        is_paused(&self.read().await)
    }

    /// Somebody lets it go on.
    async fn let_go_on(&self) {
        let spec = match self.tool {
            GitopsTool::ArgoCd => json!({ "syncPolicy": { "automated": automated() } }),
            GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => json!({ "suspend": false }),
        };
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until it is paused, or goes on.
    async fn until(&self, paused: bool, watch: &mut Watch) {
        watch.until("done with the owner", async |_| self.is_paused().await == paused).await;
    }

    /// It goes on just as before, and nothing of the daemon's is left on it.
    async fn is_as_before(&self, before: &DynamicObject) {
        let after = self.read().await;
        let spec = |object: &DynamicObject| {
            let mut spec = object.data["spec"].clone();
            // To be told not to wait is to be told nothing.
            if spec["suspend"] == false {
                spec.as_object_mut().unwrap().remove("suspend");
            }
            spec
        };
        assert_eq!(spec(&after), spec(before));
        let kept: BTreeMap<_, _> = after.annotations().clone();
        assert_eq!(kept, *before.annotations());
    }
}

fn is_paused(object: &DynamicObject) -> bool {
    let spec = &object.data["spec"];
    match object.types.as_ref().unwrap().kind.as_str() {
        "Application" => spec["syncPolicy"]["automated"].is_null(),
        _ => spec["suspend"] == true,
    }
}

/// What a repository says of the Deployment's image, brought to the cluster again and again.
struct Repository {
    image: Arc<Mutex<String>>,
    brings: JoinHandle<()>,
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.brings.abort();
    }
}

impl Repository {
    /// Brought while the owner is not paused; or whatever the owner says.
    fn brought_by(owner: &Owner<'_>, image: &str, heeds_pause: bool) -> Self {
        let image = Arc::new(Mutex::new(image.to_owned()));
        let (deployments, owners) = (owner.cluster.api::<Deployment>(), owner.api.clone());
        let says = Arc::clone(&image);
        let writer = match owner.tool {
            GitopsTool::ArgoCd => "argocd-controller",
            GitopsTool::FluxKustomization => "kustomize-controller",
            GitopsTool::FluxHelmRelease => "helm-controller",
        };
        let brings = tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                if heeds_pause && owners.get("web").await.is_ok_and(|owner| is_paused(&owner)) {
                    continue;
                }
                let wanted = says.lock().unwrap().clone();
                let Ok(found) = deployments.get("shop").await else { continue };
                if template(&found)["spec"]["containers"][0]["image"] == wanted {
                    continue;
                }
                let container = json!({ "name": "app", "image": wanted });
                let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
                let params = PatchParams { field_manager: Some(writer.to_owned()), ..Default::default() };
                let _ = deployments.patch("shop", &params, &Patch::Strategic(patch)).await;
            }
        });
        Self { image, brings }
    }

    fn now_says(&self, image: &str) {
        *self.image.lock().unwrap() = image.to_owned();
    }
}

/// The Deployment, with an owner's marks, in a good release.
async fn owned(cluster: &Cluster, marks: &Value) -> Deployment {
    let mut shop = deployment("shop", 2, "shop:v1");
    for (key, value) in marks.as_object().unwrap() {
        shop["metadata"][key] = value.clone();
    }
    cluster.create::<Deployment>(shop).await;
    cluster.rolled_out("shop").await
}

/// A policy that pauses owners for so many seconds.
fn pausing(limit: u32) -> String {
    format!("gitops = \"pause\"\ndeadline = \"{limit}s\"\ngitops_limit = \"{limit}s\"\n{}", on_errors())
}

/// Sees a fault told with this reason, and nothing written.
async fn is_held(cluster: &Cluster, watch: &mut Watch, bad: &Deployment, reason: &str) {
    let is_told = |watch: &Watch| {
        let alerts = watch.alerts();
        alerts.iter().any(|alert| alert.phase == Phase::Held && alert.reason.contains(reason))
    };
    watch.until("held for its owner", async |watch| is_told(watch)).await;
    let after: Deployment = cluster.api().get("shop").await.unwrap();
    assert_eq!(after.spec, bad.spec);
    assert_eq!(after.metadata.generation, bad.metadata.generation, "nothing was written");
    assert_eq!(plans(&watch.records().await), 0);
}

fn plans(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.event, Event::Planned { .. })).count()
}

/// How the steps of the only plan ended, by what they do.
fn steps(records: &[Record]) -> Vec<(String, Outcome)> {
    let planned = records.iter().filter_map(|record| match &record.event {
        Event::Planned { plan, .. } => Some(plan),
        _ => None,
    });
    let [plan] = planned.collect::<Vec<_>>()[..] else { panic!("one plan: {records:#?}") };
    let ended = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { step, outcome } => {
            let kind = match &plan.steps[*step as usize].kind {
                StepKind::PauseOwner { .. } => "pause",
                StepKind::RestoreTemplate { .. } => "restore",
                StepKind::AwaitRollout { .. } => "await",
                other => panic!("{other:?}"),
            };
            Some((kind.to_owned(), outcome.clone()))
        }
        _ => None,
    });
    ended.collect()
}

fn done() -> Vec<(String, Outcome)> {
    ["pause", "restore", "await"].map(|step| (step.to_owned(), Outcome::Applied)).to_vec()
}

fn put_backs(records: &[Record]) -> Vec<Outcome> {
    let put_back = records.iter().filter_map(|record| match &record.event {
        Event::OwnerPutBack { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    put_back.collect()
}

async fn has_put_back(watch: &Watch) -> bool {
    !put_backs(&watch.records().await).is_empty()
}

#[test]
fn by_default_an_owner_is_named_and_nothing_is_written() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &on_errors()).await;
        let why = format!("{} owns the workload", owner.told());
        let missing = format!("\"missing\":\"owner\",\"why\":\"{why}");
        watch.until("warned while all is well", async |watch| watch.log().contains(&missing)).await;
        let bad = cluster.set_image("shop", BAD).await;
        is_held(cluster, &mut watch, &bad, &why).await;
        assert!(!owner.is_paused().await);
    });
}

#[test]
fn who_rolls_releases_out_by_itself_is_left_to_do_it() {
    on_cluster(Needs::Pods, async |cluster| {
        owned(cluster, &json!({})).await;
        let by = PatchParams { field_manager: Some("flagger".to_owned()), ..Default::default() };
        let scaled = Patch::Strategic(json!({ "spec": { "replicas": 3 } }));
        cluster.api::<Deployment>().patch("shop", &by, &scaled).await.unwrap();
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &pausing(90)).await;
        let bad = cluster.set_image("shop", BAD).await;
        is_held(cluster, &mut watch, &bad, "Flagger owns the workload").await;
    });
}

/// Who only wrote the fields can't be paused: nothing says which object it is by.
#[test]
fn an_owner_that_left_no_mark_is_found_by_what_it_wrote() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        owned(cluster, &json!({})).await;
        let repository = Repository::brought_by(&owner, "shop:v1.1", true);
        cluster.until("shop", "of the repository", |shop: &Deployment| is_of(shop, "shop:v1.1")).await;
        cluster.rolled_out("shop").await;
        let mut watch = Watch::over(cluster, &pausing(90)).await;
        repository.now_says(BAD);
        let bad = cluster.until("shop", "bad", |shop: &Deployment| is_of(shop, BAD)).await;
        is_held(cluster, &mut watch, &bad, "an unnamed Argo CD Application owns the workload").await;
    });
}

fn is_of(found: &Deployment, image: &str) -> bool {
    template(found)["spec"]["containers"][0]["image"] == image
}

/// The whole story: brought by the repository, taken back while the owner waits, put back, and left to a human from then
/// on.
#[test]
fn argo_cd_is_paused_for_a_rollback_and_not_fought_when_it_goes_on() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        let as_it_was = owner.read().await;
        let before = owned(cluster, &owner.marks()).await;
        let repository = Repository::brought_by(&owner, "shop:v1", true);
        let mut watch = Watch::over(cluster, &pausing(40)).await;
        repository.now_says(BAD);
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
        let stays = format!("{} stays paused for 40s at most", owner.told());
        assert!(last.reason.contains(&stays), "{}", last.reason);
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        assert!(owner.is_paused().await);
        assert_eq!(steps(&watch.records().await), done());
        let paused = watch.view().await["owners_paused"].clone();
        assert_eq!([&paused[0]["owner"]["name"], &paused[0]["is_sure"]], [&json!("web"), &json!(true)], "{paused}");

        owner.until(false, &mut watch).await;
        owner.is_as_before(&as_it_was).await;
        let again = format!("{} goes on again", owner.told());
        let told = |watch: &Watch| watch.alerts().iter().any(|alert| alert.reason.contains(&again));
        watch.until("told", async |watch| told(watch)).await;
        // The repository still says what it said, and brings it back: a human must look.
        cluster.until("shop", "bad again", |shop: &Deployment| is_of(shop, BAD)).await;
        let after = |alerts: Vec<Alert>| alerts.into_iter().skip_while(|alert| !alert.reason.contains(&again));
        let held = |watch: &Watch| after(watch.alerts()).any(|alert| alert.phase == Phase::Held);
        watch.until("held", async |watch| held(watch)).await;
        let records = watch.records().await;
        assert_eq!((plans(&records), put_backs(&records)), (1, vec![Outcome::Applied]));
        assert!(is_of(&cluster.rolled_out("shop").await, BAD), "it is not fought");
    });
}

/// Killed between the write that pauses and the note of it: the mark says whose pause it is.
#[test]
fn flux_is_paused_once_and_put_back_though_the_daemon_is_killed_meanwhile() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::FluxKustomization).await;
        let as_it_was = owner.read().await;
        let before = owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(60)).await;
        cluster.set_image("shop", BAD).await;
        owner.until(true, &mut watch).await;
        let paused = owner.read().await;
        watch.dies_and_starts_again(cluster).await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Restored, "{}", last.summary);
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        // It may have been killed between a write and its record.
        let mut told = steps(&watch.records().await);
        for (_, outcome) in told.iter_mut().filter(|(_, outcome)| *outcome == Outcome::AlreadyInEffect) {
            *outcome = Outcome::Applied;
        }
        assert_eq!(told, done());
        assert_eq!(owner.read().await.resource_version(), paused.resource_version(), "it was paused once");
        watch.dies_and_starts_again(cluster).await;
        owner.until(false, &mut watch).await;
        owner.is_as_before(&as_it_was).await;
        watch.until("noted", async |watch| has_put_back(watch).await).await;
        assert_eq!(put_backs(&watch.records().await), [Outcome::Applied]);
    });
}

/// One that writes whatever its pause says: stopped at the first time.
#[test]
fn a_release_that_is_written_back_over_a_rollback_is_not_taken_back_again() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::FluxHelmRelease).await;
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(60)).await;
        let repository = Repository::brought_by(&owner, BAD, false);
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Closed, "{}", last.summary);
        // By then what follows may have been told as well.
        let after = |alerts: Vec<Alert>| alerts.into_iter().skip_while(|alert| alert.id != last.id);
        let held = |watch: &Watch| after(watch.alerts()).any(|alert| alert.phase == Phase::Held);
        watch.until("held", async |watch| held(watch)).await;
        // Its pause protects nothing any more.
        owner.until(false, &mut watch).await;
        let records = watch.records().await;
        assert_eq!(plans(&records), 1, "{records:#?}");
        assert!(is_of(&cluster.rolled_out("shop").await, BAD));
        drop(repository);
    });
}

/// Somebody lets the owner go on between two attempts, or before the limit: it is not paused a second time.
#[test]
fn what_somebody_lets_go_on_stays_so_and_whoever_deploys_meanwhile_wins() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        let as_it_was = owner.read().await;
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(40)).await;
        cluster.set_image("shop", BAD).await;
        owner.until(true, &mut watch).await;
        let third = cluster.set_image("shop", "shop:v3").await;
        let alerts = watch.told_to_the_end().await;
        let last = alerts.last().unwrap();
        assert_eq!(last.phase, Phase::Closed, "{}", last.summary);
        assert!(owner.is_paused().await, "the owner would bring the bad one over what was deployed by hand");
        owner.let_go_on().await;
        watch.until("done with it", async |watch| has_put_back(watch).await).await;
        assert_eq!(put_backs(&watch.records().await), [Outcome::AlreadyInEffect]);
        owner.is_as_before(&as_it_was).await;
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&third));
    });
}

#[test]
fn a_sync_that_is_under_way_is_waited_for_before_anything_is_begun() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        let before = owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(90)).await;
        let syncs = async |phase: &str| {
            let patch = Patch::Merge(json!({ "status": { "operationState": { "phase": phase } } }));
            owner.api.patch("web", &PatchParams::default(), &patch).await.unwrap();
        };
        syncs("Running").await;
        let bad = cluster.set_image("shop", BAD).await;
        is_held(cluster, &mut watch, &bad, "argocd app terminate-op").await;
        assert!(!owner.is_paused().await);
        syncs("Succeeded").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
    });
}

/// Nobody watches the workload any more, and the daemon was killed; what it paused goes on all the same.
#[test]
fn an_owner_goes_on_by_its_limit_though_the_workload_left_the_policy() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::FluxKustomization).await;
        let as_it_was = owner.read().await;
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(40)).await;
        cluster.set_image("shop", BAD).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        watch.strike_out();
        watch.hang_up();
        watch.until("told of it", async |watch| watch.log().contains("is ended first")).await;
        watch.dies_and_starts_again(cluster).await;
        watch.until("told of it again", async |watch| watch.log().contains("is ended first")).await;
        assert!(owner.is_paused().await, "it would write over the rollback");
        owner.until(false, &mut watch).await;
        owner.is_as_before(&as_it_was).await;
        watch.until("noted", async |watch| has_put_back(watch).await).await;
        assert_eq!(put_backs(&watch.records().await), [Outcome::Applied]);
        watch.until("without it", async |watch| watch.workloads().await == ["other"]).await;
    });
}

/// What Flux has begun it brings to an end though it is paused; nothing is written before that.
#[test]
fn what_flux_has_begun_is_waited_for_after_it_is_paused() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::FluxKustomization).await;
        let before = owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(cluster, &pausing(90)).await;
        let says = async |reason: &str| {
            let condition = json!({ "type": "Reconciling", "status": "True", "reason": reason });
            let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
            owner.api.patch("web", &PatchParams::default(), &patch).await.unwrap();
        };
        says("Progressing").await;
        let bad = cluster.set_image("shop", BAD).await;
        owner.until(true, &mut watch).await;
        // It is looked at every half second.
        sleep(Duration::from_secs(2)).await;
        let now: Deployment = cluster.api().get("shop").await.unwrap();
        assert_eq!(now.metadata.generation, bad.metadata.generation, "nothing is written yet");
        says("ProgressingWithRetry").await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
    });
}

#[test]
fn each_right_to_pause_that_is_missing_is_named_at_the_start() {
    on_cluster(Needs::Pods, async |cluster| {
        for tool in [GitopsTool::ArgoCd, GitopsTool::FluxKustomization, GitopsTool::FluxHelmRelease] {
            define(cluster, tool).await;
        }
        let owner = Owner::create(cluster, GitopsTool::FluxHelmRelease).await;
        let account = Account::install(cluster, &[]).await;
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(&cluster.with(account.kubeconfig()), &pausing(90)).await;
        let (group, _, _, plural) = kind_of(owner.tool);
        for verb in ["get", "patch"] {
            let rule = format!("apiGroups: [\"{group}\"], resources: [\"{plural}\"], verbs: [\"{verb}\"]");
            let rule = json!(rule).to_string();
            let rule = rule.trim_matches('"');
            let named = async |watch: &Watch| {
                watch.log().lines().any(|line| line.contains("\"missing\":\"rights\"") && line.contains(rule))
            };
            watch.until(&format!("named: {rule}"), named).await;
        }
        let bad = cluster.set_image("shop", BAD).await;
        is_held(cluster, &mut watch, &bad, "a Role with").await;
        assert!(!owner.is_paused().await);
    });
}

/// An app of apps: whatever pauses the owner is undone at once.
#[test]
fn an_owner_that_could_not_be_paused_is_told_of_before_there_is_a_goal() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        let id = format!("root:argoproj.io/Application:{}/web", cluster.namespace());
        let mark = Patch::Merge(json!({ "metadata": { "annotations": { "argocd.argoproj.io/tracking-id": id } } }));
        owner.api.patch("web", &PatchParams::default(), &mark).await.unwrap();
        owned(cluster, &owner.marks()).await;
        let mut watch = Watch::begin(cluster, "deployment", &pausing(90)).await;
        let why = format!("Argo CD Application root writes {}, and would let it go on at once", owner.told());
        let need = json!({ "need": "owner", "is": "no", "why": why });
        let is_told = async |watch: &Watch| {
            let plan = watch.view_of("shop/plan").await;
            plan["plan"].is_null() && plan["readiness"].as_array().is_some_and(|needs| needs.contains(&need))
        };
        watch.until("told", is_told).await;
    });
}

#[test]
fn with_the_shipped_rights_an_owner_is_paused_and_put_back() {
    on_cluster(Needs::Pods, async |cluster| {
        let owner = Owner::create(cluster, GitopsTool::ArgoCd).await;
        let as_it_was = owner.read().await;
        let account = Account::install(cluster, &["argo-cd", "flux"]).await;
        let before = owned(cluster, &owner.marks()).await;
        let mut watch = Watch::over(&cluster.with(account.kubeconfig()), &pausing(40)).await;
        cluster.set_image("shop", BAD).await;
        let alerts = watch.told_to_the_end().await;
        assert_eq!(alerts.last().unwrap().phase, Phase::Restored, "{alerts:#?}");
        assert_eq!(template(&cluster.rolled_out("shop").await), template(&before));
        owner.until(false, &mut watch).await;
        owner.is_as_before(&as_it_was).await;
        assert!(!watch.log().contains("\"missing\":\"rights\""), "{}", watch.log());
    });
}

#[test]
fn of_an_owner_the_api_server_lets_the_daemon_write_the_pause_alone() {
    on_cluster(Needs::Api, async |cluster| {
        let account = Account::install(cluster, &["argo-cd", "flux"]).await;
        for tool in [GitopsTool::ArgoCd, GitopsTool::FluxKustomization, GitopsTool::FluxHelmRelease] {
            let owner = Owner::create(cluster, tool).await;
            let owners = api_of(&account.client, tool, cluster.namespace());
            let write = async |patch: &Value| owners.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await;
            let refused = async |patch: &Value| write(patch).await.err().map(|error| error.to_string());
            let labels = json!({ "metadata": { "labels": { "a": "b" } } });
            // A policy that was just made takes a moment to be in force.
            let deadline = Instant::now() + PATIENCE;
            while !refused(&labels).await.is_some_and(|told| told.contains("no other metadata")) {
                assert!(Instant::now() < deadline, "the policy is not in force");
                let clean = json!({ "metadata": { "labels": { "a": null } } });
                owner.api.patch("web", &PatchParams::default(), &Patch::Merge(clean)).await.unwrap();
                sleep(LOOK_EVERY).await;
            }
            let pause = match tool {
                GitopsTool::ArgoCd => json!({ "syncPolicy": { "automated": null } }),
                GitopsTool::FluxKustomization | GitopsTool::FluxHelmRelease => json!({ "suspend": true }),
            };
            write(&json!({ "spec": pause, "metadata": { "annotations": { "rollbackd.dev/paused": "x" } } }))
                .await
                .unwrap();
            for (patch, why) in [
                (json!({ "spec": { "interval": "9m", "project": "other" } }), "no other part"),
                (json!({ "spec": { "source": { "repoURL": "https://example.com" } } }), "no other part"),
                (json!({ "spec": { "syncPolicy": { "retry": { "limit": 9 } } } }), "no other part"),
                (json!({ "operation": { "sync": {} } }), "do anything"),
                (
                    json!({ "metadata": { "annotations": { "argocd.argoproj.io/refresh": "hard" } } }),
                    "no other metadata",
                ),
            ] {
                let told = refused(&patch).await.unwrap_or_default();
                assert!(told.contains("rollbackd-owners") && told.contains(why), "{tool:?}, {patch}: {told}");
            }
        }
        assert_eq!(objects("extras/flux").len(), 2);
    });
}
