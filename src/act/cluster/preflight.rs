//! Looking whether steps in a cluster could be done: rights, what keeps the goal, and the very write as a dry run.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kube::Client;
use tokio::time::timeout;

use super::object::{Change, Number, Place};
use super::quota::{self, Start};
use super::setting::{self, Restored, Store, Trial};
use super::write::{self, refused};
use super::{owner, partition, stuck, switch};
use crate::cluster::record_names::{kept_name, record_name};
use crate::cluster::rights::{self, Granted, Right};
use crate::cluster::{Clients, describe};
use crate::domain::id::{RevisionId, WorkloadId};
use crate::domain::policy::{ClusterObject, Kubernetes, KubernetesSubject, Owner, OwnerObject, Strategy, Switch};
use crate::domain::response::plan::{Aspect, Finding, Outcome, StepKind};
use crate::domain::settings::Setting;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// How long one look at a step may take: one answer that does not come must not take the others' time.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// Shortest and longest wait before a look that failed in a way that may pass is done again, and all waits together. A plan
/// that does not pass holds for much longer.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// Where one of several replicas holds its Lease and shares what it records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    /// The namespace.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
}

/// What stands in the way of the steps that are done in a cluster.
pub(in crate::act) async fn findings(
    clients: &Clients,
    store: Option<Store<'_>>,
    whose: (&WorkloadId, &KubernetesSubject),
    steps: &[&StepKind],
) -> Vec<Finding> {
    within(async {
        let mut findings = Vec::new();
        for step in steps {
            findings.extend(persist(clients, || of_step(clients, store, whose, (steps, step))).await);
        }
        findings.dedup();
        findings
    })
    .await
}

/// What is missing while all is well: each right that a policy needs and this daemon has not, and room for what the steps
/// start. What was granted a moment ago is taken to be so still.
pub(in crate::act) async fn survey(
    clients: &Clients,
    granted: &Granted,
    (cluster, strategy): (&Kubernetes, Strategy),
    settings: &[Setting],
    steps: &[&StepKind],
) -> Vec<Finding> {
    // Which namespace that of the pod is, is known to whoever follows it.
    let Some(namespace) = &cluster.namespace else { return Vec::new() };
    within(async {
        let context = cluster.context.as_deref();
        let client = match clients.get(context).await {
            Ok(client) => client,
            Err(error) => return vec![nobody(Aspect::Rights, error.line())],
        };
        let mut findings = Vec::new();
        for right in rights::needed(cluster, strategy) {
            let mut names = rights::names(&right, &cluster.subject, settings);
            if names.is_empty() {
                // Where they may not be seen, nobody knows which there are.
                let list = [Right::new(right.group, right.resource, "list")];
                let unseen = granted.missing(&client, (context, namespace, None), &list).await;
                names.extend(unseen.is_ok_and(|missing| !missing.is_empty()).then_some(None));
            }
            for name in names {
                let missing = granted.missing(&client, (context, namespace, name), &[right]).await;
                let missing = told((namespace, name), missing);
                findings
                    .extend(missing.into_iter().map(|found| if is_tidying(right) { tidying(found) } else { found }));
            }
        }
        // None of its pods may be in the way now: one of the next bad release may be.
        if steps.iter().any(|step| matches!(step, StepKind::DeleteStuck { .. })) {
            let missing = granted.missing(&client, (context, namespace, None), &rights::to_delete_stuck()).await;
            findings.extend(told((namespace, None), missing));
        }
        findings.sort_by(|one, other| one.problem.cmp(&other.problem));
        findings.dedup();
        for step in steps {
            findings.extend(
                room(&client, steps, step).await.unwrap_or_else(|why| vec![finding(Aspect::Quota, "quota", why)]),
            );
        }
        findings
    })
    .await
}

/// Each right that is missing in the daemon's own namespace: without the Lease it never leads, and what it can't record it
/// does not begin.
pub(in crate::act) async fn survey_home(
    clients: &Clients,
    granted: &Granted,
    home: &Home,
    workload: &WorkloadId,
    has_settings: bool,
) -> Vec<Finding> {
    within(async {
        let client = match clients.get(None).await {
            Ok(client) => client,
            Err(error) => return vec![nobody(Aspect::Rights, error.line())],
        };
        let record = record_name(&home.lease, workload);
        let kept = kept_name(&record);
        let (lead, share) = (rights::to_lead(), rights::to_share());
        let needed: [(&str, &[Right]); 3] =
            [(&home.lease, &lead), (&record, &share), (&kept, if has_settings { &share } else { &[] })];
        let mut findings = Vec::new();
        for (name, rights) in needed {
            let missing = granted.missing(&client, (None, &home.namespace, Some(name)), rights).await;
            findings.extend(told((&home.namespace, None), missing));
        }
        findings.sort_by(|one, other| one.problem.cmp(&other.problem));
        findings.dedup();
        findings
    })
    .await
}

/// What stands in the way of pausing the owners of a workload of this cluster, whatever release it could go back to: each right
/// that is missing, in the namespace of each, and who would let an owner go on.
pub(in crate::act) async fn survey_owners(
    clients: &Clients,
    granted: &Granted,
    cluster: &Kubernetes,
    owners: &[Owner],
) -> Vec<Finding> {
    within(async {
        let mut findings = Vec::new();
        for owner in owners.iter().filter_map(|owner| OwnerObject::of(owner, cluster)) {
            let context = owner.context.as_deref();
            let client = match clients.get(context).await {
                Ok(client) => client,
                Err(error) => return vec![nobody(Aspect::Rights, error.line())],
            };
            let place = (context, owner.namespace.as_str(), Some(owner.name.as_str()));
            let missing = granted.missing(&client, place, &rights::to_pause(owner.tool)).await;
            let missing = told((&owner.namespace, None), missing);
            if missing.is_empty() {
                // What may pass is found again where it stands in the way of a plan.
                let tried = owner::rehearse(&owner::Place::new(client, &owner)).await;
                findings.extend(rehearsed(Aspect::Owner, &owner, tried).unwrap_or_default());
            }
            findings.extend(missing);
        }
        findings
    })
    .await
}

/// That a look failed in a way that may pass, and what is found where it does not.
struct Passing(Finding);

/// What a look found.
type Looked = Result<Vec<Finding>, Passing>;

/// Looks again where that may help, as late as the API server asks for.
async fn persist<F: Future<Output = Looked>>(clients: &Clients, look: impl Fn() -> F) -> Vec<Finding> {
    let [shortest, longest, all] = PAUSES;
    let pauses = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest).without_max_times();
    let bounded = || async {
        let late = || finding(Aspect::Place, "API server", format!("did not answer within {} s", LOOK_LIMIT.as_secs()));
        timeout(LOOK_LIMIT, look()).await.unwrap_or_else(|_| Err(Passing(late())))
    };
    let looked = bounded
        .retry(pauses.with_total_delay(Some(all)))
        .adjust(|_, pause| pause.map(|pause| pause.max(clients.courtesy().wait())).filter(|pause| *pause <= all))
        .notify(|Passing(finding), pause| tracing::warn!(%finding, ?pause, "looked again after a pause"))
        .await;
    looked.unwrap_or_else(|Passing(finding)| vec![Finding { passing: true, ..finding }])
}

/// What stands in the way of pausing an owner.
async fn of_owner(clients: &Clients, owner: &OwnerObject) -> Looked {
    let client = match clients.get(owner.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(vec![nobody(Aspect::Place, error.line())]),
    };
    let needed = rights::to_pause(owner.tool);
    let missing = rights::missing(&client, &owner.namespace, Some(&owner.name), &needed).await;
    let findings = ungranted(&owner.namespace, missing)?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    rehearsed(Aspect::Owner, owner, owner::rehearse(&owner::Place::new(client, owner)).await)
}

/// What of a step the namespace has no room for. A number that takes the place of another one is that of pods that have just
/// gone.
async fn room(client: &Client, all: &[&StepKind], step: &StepKind) -> Result<Vec<Finding>, String> {
    let (object, start) = if let StepKind::RestoreTemplate { object, expect, to, source } = step {
        let start = match is_emptied(all, object) {
            true => Start::Anew(source),
            false if expect == to => Start::InPlace,
            false => Start::Goal(source),
        };
        (object, start)
    } else if let StepKind::Scale { object, replicas: replicas @ 1.., only_from: None, .. } = step {
        (object, Start::Pods(*replicas))
    } else {
        return Ok(Vec::new());
    };
    lacking(client, object, start).await
}

async fn lacking(client: &Client, object: &ClusterObject, start: Start<'_>) -> Result<Vec<Finding>, String> {
    let lacking = quota::lacking(client, &Place::new(client.clone(), object), start).await?;
    Ok(lacking.into_iter().map(|why| finding(Aspect::Quota, "quota", why)).collect())
}

/// Whether one of these steps leaves it without pods.
fn is_emptied(all: &[&StepKind], object: &ClusterObject) -> bool {
    all.iter().any(|step| matches!(step, StepKind::Scale { object: of, replicas: 0, .. } if of == object))
}

/// That nobody can say whether there is room is told while all is well, and is no reason to leave a bad release in place.
fn if_known(object: &ClusterObject, looked: Result<Vec<Finding>, String>) -> Vec<Finding> {
    looked.unwrap_or_else(|why| {
        tracing::warn!(%object, why, "whether there is room for its pods is not known");
        Vec::new()
    })
}

async fn within(look: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    let looked = timeout(LIMIT, look).await;
    looked.unwrap_or_else(|_| vec![nobody(Aspect::Place, format!("did not answer within {} s", LIMIT.as_secs()))])
}

async fn of_step(
    clients: &Clients,
    store: Option<Store<'_>>,
    (workload, subject): (&WorkloadId, &KubernetesSubject),
    (all, step): (&[&StepKind], &StepKind),
) -> Looked {
    let (object, rehearsal, needed): (_, _, Vec<Right>) = match step {
        StepKind::RestoreTemplate { object, expect, source, to } => {
            let change = Change::Template { expect: expect.clone(), source: source.clone() };
            let rehearsal = if expect == to { Rehearsal::Again(change) } else { Rehearsal::Write(change) };
            (object, rehearsal, rights::to_restore(object.kind).into())
        }
        StepKind::RestoreSetting { object, setting, expect, content, release, unless_at: _ } => {
            let what = Restored { workload, object, setting, expect: expect.as_ref(), content, release };
            let paused = all
                .iter()
                .filter_map(|step| if let StepKind::PauseOwner { owner, .. } = step { Some(owner) } else { None });
            (
                object,
                Rehearsal::Setting(what, subject, paused.collect()),
                rights::to_restore_setting(setting.kind).into(),
            )
        }
        // Which release it is about is settled by the steps before it.
        StepKind::Scale { object, replicas, only_from, expect: _, at_any: _ } => {
            let number = Number { replicas: *replicas, only_from: *only_from };
            return of_scale(clients, object, number, step).await;
        }
        StepKind::PauseOwner { owner, .. } => return of_owner(clients, owner).await,
        StepKind::DeleteStuck { object, release, to: _ } => return of_stuck(clients, object, release).await,
        StepKind::SwitchService { object, switch, .. } => {
            (object, Rehearsal::Switch(switch.clone()), rights::to_switch().into())
        }
        StepKind::ProveTraffic { object, .. } => (object, Rehearsal::None, rights::to_prove_traffic().into()),
        // By then the good release is back: that it may not be tidied up holds nothing. Readiness tells of it.
        StepKind::DeleteCanary { .. }
        | StepKind::PutBackOwner { .. }
        | StepKind::SwitchLink { .. }
        | StepKind::Restart { .. }
        | StepKind::Command { .. }
        | StepKind::AwaitRollout { .. }
        | StepKind::AwaitGone { .. }
        | StepKind::AwaitCapacity { .. }
        | StepKind::AwaitWell { .. }
        | StepKind::Gate { .. } => return Ok(Vec::new()),
    };
    let findings = look(clients, store, object, rehearsal, &needed).await?;
    if let StepKind::RestoreTemplate { object, expect, to, source } = step
        && findings.is_empty()
    {
        let is_in_place = expect == to;
        // What a partition keeps from going back is known of a goal alone.
        let kept_back = if is_in_place { Vec::new() } else { of_partition(clients, object, to).await? };
        let start = if is_in_place { Start::InPlace } else { Start::First(source) };
        return match clients.get(object.context.as_deref()).await {
            // Who begins that where it can't move waits in vain.
            Ok(client) if kept_back.is_empty() && !is_emptied(all, object) => {
                Ok(if_known(object, lacking(&client, object, start).await))
            }
            Ok(_) | Err(_) => Ok(kept_back),
        };
    }
    Ok(findings)
}

/// What would stay where it is though the template goes back: who begins that leaves some pods bad and says that all is done.
async fn of_partition(clients: &Clients, object: &ClusterObject, to: &RevisionId) -> Looked {
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(vec![nobody(Aspect::Place, error.line())]),
    };
    let looked = match partition::kept_back(&client, object, to).await {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(Outcome::Denied(why)),
        Err(error) => Err(refused(&error)),
    };
    rehearsed(Aspect::Place, object, looked)
}

/// What stands in the way of another number of pods: whoever waits for pods that find no room waits in vain.
async fn of_scale(clients: &Clients, object: &ClusterObject, number: Number, step: &StepKind) -> Looked {
    let change = Change::Replicas { expect: None, number };
    let findings = look(clients, None, object, Rehearsal::Write(change), &rights::to_scale(object.kind)).await?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(vec![nobody(Aspect::Place, error.line())]),
    };
    Ok(if_known(object, room(&client, &[], step).await))
}

/// What stands in the way of deleting pods that keep their controller waiting, where there are any.
async fn of_stuck(clients: &Clients, object: &ClusterObject, release: &RevisionId) -> Looked {
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(vec![nobody(Aspect::Place, error.line())]),
    };
    match stuck::any(&client, object, release).await {
        Ok(false) => Ok(Vec::new()),
        Ok(true) => look(clients, None, object, Rehearsal::None, &rights::to_delete_stuck()).await,
        Err(outcome) => rehearsed(Aspect::Place, object, Err(outcome)),
    }
}

/// What of a step can be tried without doing it.
enum Rehearsal<'a> {
    None,
    Write(Change),
    /// Of what is in effect already.
    Again(Change),
    Switch(Box<Switch>),
    /// With whose it is, and the owners that are paused before it.
    Setting(Restored<'a>, &'a KubernetesSubject, Vec<&'a OwnerObject>),
}

async fn look(
    clients: &Clients,
    store: Option<Store<'_>>,
    object: &ClusterObject,
    rehearsal: Rehearsal<'_>,
    needed: &[Right],
) -> Looked {
    let client = match clients.get(object.context.as_deref()).await {
        Ok(client) => client,
        Err(error) => return Ok(vec![nobody(Aspect::Place, error.line())]),
    };
    let place = Place::new(client.clone(), object);
    // A template that would be taken shows by itself that it may be written: rights are asked for only where it would not.
    let is_taken = match &rehearsal {
        Rehearsal::Write(change @ Change::Template { .. }) => write::rehearse(&place, change).await.is_ok(),
        Rehearsal::Again(change) => write::rehearse_again(&place, change).await.is_ok(),
        Rehearsal::Write(Change::Replicas { .. }) | Rehearsal::None | Rehearsal::Switch(_) | Rehearsal::Setting(..) => {
            false
        }
    };
    if is_taken {
        return Ok(Vec::new());
    }
    let name = match &rehearsal {
        Rehearsal::Switch(switch) => &switch.service.name,
        Rehearsal::Setting(what, ..) => &what.setting.name,
        Rehearsal::None | Rehearsal::Write(_) | Rehearsal::Again(_) => &object.name,
    };
    let missing = rights::missing(&client, &object.namespace, Some(name), needed).await;
    let findings = ungranted(&object.namespace, missing)?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    match &rehearsal {
        Rehearsal::None => Ok(findings),
        Rehearsal::Write(change) => rehearsed(Aspect::Place, object, write::rehearse(&place, change).await),
        Rehearsal::Again(change) => rehearsed(Aspect::Place, object, write::rehearse_again(&place, change).await),
        Rehearsal::Switch(switch) => {
            let what = format!("Service {}", switch.service.name);
            rehearsed(Aspect::Place, what, switch::rehearse(&client, object, switch).await)
        }
        Rehearsal::Setting(what, subject, paused) => {
            let tried = match store {
                Some(store) => setting::rehearse(&client, store, *what, Trial { subject, paused }).await,
                None => Err(Outcome::Denied("what it said is kept nowhere".to_owned())),
            };
            rehearsed(Aspect::Settings, what.setting, tried)
        }
    }
}

/// What a rehearsal found.
fn rehearsed(aspect: Aspect, what: impl ToString, tried: Result<(), Outcome>) -> Looked {
    let found = |why: String| finding(aspect, &what.to_string(), why);
    match tried {
        Ok(()) | Err(Outcome::Applied | Outcome::AlreadyInEffect) => Ok(Vec::new()),
        Err(Outcome::Transient(why) | Outcome::TimedOut(why) | Outcome::Stopped(why)) => Err(Passing(found(why))),
        Err(Outcome::Conflict(why) | Outcome::Denied(why) | Outcome::NotBegun(why)) => Ok(vec![found(why)]),
    }
}

/// The rights that are missing.
fn ungranted(namespace: &str, missing: Result<Vec<Right>, kube::Error>) -> Looked {
    match missing {
        Err(error) if matches!(refused(&error), Outcome::Transient(_)) => {
            Err(Passing(finding(Aspect::Rights, "rights", describe(&error))))
        }
        missing => Ok(told((namespace, None), missing)),
    }
}

/// Whether it takes that right only to delete a canary once the good release is back.
fn is_tidying(right: Right) -> bool {
    right.resource == "deployments" && right.verb == "delete"
}

fn tidying(found: Finding) -> Finding {
    let problem = format!("the canary stays after a rollback: {}", found.problem);
    Finding { aspect: Aspect::Cleanup, problem, ..found }
}

fn told((namespace, name): (&str, Option<&str>), missing: Result<Vec<Right>, kube::Error>) -> Vec<Finding> {
    match missing {
        Ok(missing) => {
            let told = |right: &Right| match name {
                // Nobody is to grant more of this than is needed.
                Some(name) if right.verb == "delete" => right.missing_on(namespace, name),
                Some(_) | None => right.missing_in(namespace),
            };
            missing.iter().map(|right| finding(Aspect::Rights, "rights", told(right))).collect()
        }
        Err(error) => vec![finding(Aspect::Rights, "rights", describe(&error))],
    }
}

/// That nobody answered.
fn nobody(aspect: Aspect, problem: String) -> Finding {
    Finding { passing: true, ..finding(aspect, "API server", problem) }
}

fn finding(aspect: Aspect, check: &str, problem: String) -> Finding {
    Finding { aspect, check: check.to_owned(), problem, passing: false }
}
