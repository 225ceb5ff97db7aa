//! Looking whether a plan could be carried out, changing nothing: what is wrong is found before the first step, not
//! between two.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, AtFlags};

use super::{cluster, restart};
use crate::cluster::Clients;
use crate::domain::id::{InstanceId, RevisionId, WorkloadId};
use crate::domain::policy::{CommandHabitat, Habitat, Restart, WorkloadPolicy};
use crate::domain::response::plan::{Aspect, CommandPurpose, Finding, Plan, StepKind};
use crate::domain::response::strategy::command::fill;
use crate::host::command::{MAX_DETAIL, current, releases, shown, variables};
use crate::host::process::{self, Invocation, Leftovers};
use crate::host::release_dir::{ReleaseDirError, Root};
use crate::host::text;

/// How long looking at a host's files and units may take, all of it together.
const HOST_LIMIT: Duration = Duration::from_secs(5);

/// What stands in the way of a plan; nothing: it could be carried out now.
pub(super) async fn findings(
    systemctl: &str,
    clients: &Clients,
    store: Option<cluster::Store<'_>>,
    policy: &WorkloadPolicy,
    plan: &Plan,
) -> Vec<Finding> {
    let host = tokio::time::timeout(HOST_LIMIT, host_findings(systemctl, policy, plan)).await;
    let mut findings =
        host.unwrap_or_else(|_| vec![finding("host", format!("did not answer within {} s", HOST_LIMIT.as_secs()))]);
    match &policy.habitat {
        Habitat::Command(habitat) => findings.extend(command_findings(&policy.id, habitat, plan).await),
        Habitat::Kubernetes(_) if plan.steps.is_empty() => {
            let why = "nothing is known that keeps its template, or it has no pods and nothing to go by";
            let problem = format!("no step leads to {}: {why}", plan.to);
            findings.push(Finding { aspect: Aspect::Kept, ..finding("plan", problem) });
        }
        Habitat::Kubernetes(habitat) => {
            let whose = (&policy.id, &habitat.subject);
            findings.extend(cluster::findings(clients, store, whose, &plan.rehearsed()).await);
        }
        Habitat::ReleaseDir(_) => {}
    }
    findings
}

async fn host_findings(systemctl: &str, policy: &WorkloadPolicy, plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    for step in &plan.steps {
        match &step.kind {
            StepKind::SwitchLink { .. } => {
                let kind = step.kind.clone();
                let looked = tokio::task::spawn_blocking(move || link_findings(&kind)).await;
                findings.extend(looked.unwrap_or_else(|error| vec![finding("release directory", error.to_string())]));
            }
            StepKind::Restart { instance, how, pointed: _ } => {
                findings.extend(restart_finding(systemctl, &policy.id, instance, how).await);
            }
            StepKind::Command { argv, .. } => findings.extend(program_finding(argv)),
            StepKind::Gate { .. }
            | StepKind::RestoreTemplate { .. }
            | StepKind::RestoreSetting { .. }
            | StepKind::Scale { .. }
            | StepKind::DeleteStuck { .. }
            | StepKind::DeleteCanary { .. }
            | StepKind::PauseOwner { .. }
            | StepKind::PutBackOwner { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::AwaitWell { .. }
            | StepKind::AwaitRollout { .. } => {}
        }
    }
    findings.dedup();
    findings
}

async fn restart_finding(
    systemctl: &str,
    workload: &WorkloadId,
    instance: &InstanceId,
    how: &Restart,
) -> Option<Finding> {
    restart::problem(systemctl, workload, how, HOST_LIMIT)
        .await
        .map(|problem| finding(&format!("restart {instance}"), problem))
}

fn program_finding(argv: &[String]) -> Option<Finding> {
    let program = argv.first().map_or("", String::as_str);
    process::find_program(program, None).err().map(|error| finding("command", error.line()))
}

/// Looks at one link and its goal. Blocks on the disk.
fn link_findings(step: &StepKind) -> Vec<Finding> {
    let StepKind::SwitchLink { instance, root, link, releases, expect, to } = step else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let opened = match Root::open(root) {
        Ok(opened) => opened,
        Err(error) => return vec![finding("release directory", line(&error))],
    };
    if let Err(error) = opened.require_release(releases, to) {
        findings.push(finding(&format!("release {to}"), line(&error)));
    }
    if let Err((aspect, problem)) = link_problem(&opened, link, releases, expect, to) {
        findings.push(Finding { aspect, ..finding(&format!("link of {instance}"), problem) });
    }
    findings
}

fn link_problem(
    root: &Root,
    link: &Path,
    releases: &Path,
    expect: &RevisionId,
    to: &RevisionId,
) -> Result<(), (Aspect, String)> {
    let wrong = |error| (Aspect::Place, line(&error));
    let place = root.place(link).map_err(wrong)?;
    let content = place.read(place.name()).map_err(wrong)?;
    let found = root.name_of(&place, releases, &content).map_err(wrong)?;
    if found != *expect && found != *to {
        return Err((Aspect::Place, format!("{} names {found}, neither {expect} nor {to}", place.path().display())));
    }
    if let Some(kind) = rustix::fs::fstatfs(place.fd()).ok().and_then(|on| without_exchange(on.f_type.cast_unsigned()))
    {
        let directory = place.path().parent().unwrap_or(root.path());
        let why = format!("{} is on {kind}, which can't exchange two names atomically", directory.display());
        return Err((Aspect::Place, why));
    }
    let needed = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(place.fd(), ".", needed, AtFlags::EACCESS).map_err(|error| {
        let directory = place.path().parent().unwrap_or(root.path());
        (Aspect::Rights, format!("{} can't be written to: {error}", directory.display()))
    })
}

/// The kind of file system, by its number in statfs(2), where it is known to lack `RENAME_EXCHANGE`.
const fn without_exchange(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x0102_1997 => Some("9p"),
        0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        _ => None,
    }
}

async fn command_findings(workload: &WorkloadId, habitat: &CommandHabitat, plan: &Plan) -> Vec<Finding> {
    let limit = Duration::from(habitat.timeout);
    let mut findings = Vec::new();
    for step in &plan.steps {
        if let StepKind::Command { purpose: CommandPurpose::Rollback, instance, current: argv, expect, to, .. } =
            &step.kind
        {
            let problem = match current(workload, argv, instance.as_ref(), limit).await {
                Ok(now) if now == *expect || now == *to => None,
                Ok(now) => Some(format!("{now} is current, neither {expect} nor {to}")),
                Err(fault) => Some(fault.detail),
            };
            findings.extend(problem.map(|problem| finding("current release", problem)));
        }
    }
    let listed = match releases(workload, &habitat.releases, limit).await {
        Ok(listed) if listed.iter().any(|release| release.revision == plan.to) => None,
        Ok(_) => Some(format!("{} does not list it", shown(&habitat.releases))),
        Err(fault) => Some(fault.detail),
    };
    findings.extend(listed.map(|problem| finding(&format!("release {}", plan.to), problem)));
    if let Some(argv) = &habitat.check {
        findings.extend(check_finding(workload, argv, &plan.to, limit).await);
    }
    findings
}

async fn check_finding(workload: &WorkloadId, argv: &[String], to: &RevisionId, limit: Duration) -> Option<Finding> {
    let argv = fill(argv, to, None);
    let run = process::run(&Invocation {
        argv: &argv,
        variables: variables(workload, Some(to), None),
        directory: None,
        limit,
        leftovers: Leftovers::Killed,
    })
    .await;
    let problem = match run {
        Ok(run) if run.succeeded() => return None,
        Ok(run) => format!("{}: {}", shown(&argv), run.summary(MAX_DETAIL)),
        Err(error) => error.line(),
    };
    Some(finding(&format!("check of {to}"), problem))
}

fn line(error: &ReleaseDirError) -> String {
    text::one_line(&text::printable(error.to_string().as_bytes()))
}

fn finding(check: &str, problem: String) -> Finding {
    Finding { aspect: Aspect::Place, check: check.to_owned(), problem, passing: false }
}

#[cfg(test)]
mod tests;
