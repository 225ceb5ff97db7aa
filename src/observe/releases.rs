//! Which releases are in place: looked at often, told when it changes and once an interval.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::change::Outlook;
use super::duty::{Due, Duty, Paces};
use super::grid::{SHORTEST_PACE, fast};
use super::shared::Shared;
use crate::domain::id::{InstanceId, RevisionId, WorkloadId};
use crate::domain::observation::{Fault, FaultKind, ReleaseView, Seen};
use crate::domain::policy::{CommandHabitat, Habitat, ReleaseDir, ReleaseInstance};
use crate::domain::response::strategy::command::INSTANCE;
use crate::domain::time::{Span, Timestamp};
use crate::host::disk::Disk;
use crate::host::{command, release_dir};

/// Links are looked at no less often than this.
const SLOWEST_LINKS: Span = Span::from_secs(1);
/// Commands are run no more often than this,
const FASTEST_COMMANDS: Span = Span::from_secs(1);
/// and no less often than this.
const SLOWEST_COMMANDS: Span = Span::from_secs(5);
/// How long the disk may take.
pub(super) const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// The looks at a workload's releases.
#[derive(Debug)]
pub(super) struct Releases {
    workload: WorkloadId,
    habitat: Habitat,
    heartbeat: Span,
    told: Option<(Timestamp, Result<ReleaseView, Fault>)>,
    /// What the operator's commands said when they last could be believed, and when that look began.
    known: Option<(ReleaseView, Timestamp)>,
    disk: Disk,
    outlook: Outlook,
    shared: Arc<Shared>,
}

/// How often the releases of a habitat are looked at.
pub(super) fn paces(habitat: &Habitat, interval: Span) -> Paces {
    match habitat {
        Habitat::ReleaseDir(_) => Paces { usual: fast(interval).min(SLOWEST_LINKS), fast: SHORTEST_PACE.min(interval) },
        Habitat::Command(_) | Habitat::Kubernetes(_) => {
            Paces { usual: interval.max(FASTEST_COMMANDS).min(SLOWEST_COMMANDS), fast: FASTEST_COMMANDS }
        }
    }
}

/// Longest time that one look may take.
pub(super) fn patience(habitat: &Habitat) -> Duration {
    match habitat {
        Habitat::ReleaseDir(_) | Habitat::Kubernetes(_) => DISK_PATIENCE,
        Habitat::Command(commands) => {
            let questions = u64::try_from(commands.instances.len()).unwrap_or(u64::MAX).max(1);
            Duration::from(commands.timeout.times(questions.saturating_add(1)))
        }
    }
}

impl Duty for Releases {
    async fn look(&mut self, due: Due) -> Vec<Seen> {
        let began = Instant::now();
        let result = self.view(due.now).await;
        let fault = result.as_ref().err();
        self.shared.stats.releases.note(fault.map(|fault| fault.kind), began.elapsed());
        self.outlook.note(fault);
        let is_news = match &self.told {
            None => true,
            // With some tolerance, so that a look which comes a moment early does not put the news off to the next.
            Some((at, told)) => *told != result || due.now.since(*at) + SHORTEST_PACE >= self.heartbeat,
        };
        if !is_news && !due.nudged {
            return Vec::new();
        }
        self.told = Some((due.now, result.clone()));
        vec![Seen::Releases(result)]
    }
}

impl Releases {
    pub(super) fn new(workload: WorkloadId, habitat: Habitat, interval: Span, shared: Arc<Shared>) -> Self {
        let outlook = Outlook::new(&workload, "releases".to_owned());
        Self { workload, habitat, heartbeat: interval, told: None, known: None, disk: Disk::default(), outlook, shared }
    }

    async fn view(&mut self, now: Timestamp) -> Result<ReleaseView, Fault> {
        match &self.habitat {
            Habitat::Command(commands) => {
                let known = self.known.as_ref();
                let mut view = by_command(&self.workload, commands, known.map(|(known, _)| known)).await?;
                view.unlike_at = match known {
                    Some((known, _)) if known.instances == view.instances => known.unlike_at,
                    Some((_, began)) => Some(*began),
                    None => None,
                };
                self.known = Some((view.clone(), now));
                Ok(view)
            }
            Habitat::Kubernetes(_) => Err(local("this daemon does not follow workloads in a cluster".to_owned())),
            Habitat::ReleaseDir(place) => {
                let place = place.clone();
                let mut view = self.disk.ask(DISK_PATIENCE, move || on_disk(&place)).await??;
                view.pointed.values_mut().for_each(|at| *at = self.shared.clock.of_wall(*at));
                Ok(view)
            }
        }
    }
}

fn on_disk(place: &ReleaseDir) -> Result<ReleaseView, Fault> {
    let current = |instance: &ReleaseInstance| {
        let revision = release_dir::current(&place.root, &instance.current, &place.releases)?;
        Ok((instance.id.clone(), revision))
    };
    let instances = place.instances.iter().map(current).collect::<Result<_, Fault>>()?;
    let available = release_dir::releases(&place.root, &place.releases)?;
    // Looked at after what each names: where it was moved in between, the time is the later one.
    let pointed = |instance: &ReleaseInstance| {
        let at = release_dir::pointed(&place.root, &instance.current)?;
        Ok((instance.id.clone(), at))
    };
    let pointed = place.instances.iter().map(pointed).collect::<Result<_, Fault>>()?;
    Ok(ReleaseView { instances, available, pointed, ..ReleaseView::default() })
}

/// What the operator's commands say. A release that is new and that they do not list is not believed, since it may be the word
/// of a tool that has nothing to say, such as `null`: an incident ends where somebody puts another release in place.
async fn by_command(
    workload: &WorkloadId,
    commands: &CommandHabitat,
    known: Option<&ReleaseView>,
) -> Result<ReleaseView, Fault> {
    let instances = in_place(workload, commands).await?;
    let available = command::releases(workload, &commands.releases, commands.timeout.into()).await?;
    let view = ReleaseView { instances, available, ..ReleaseView::default() };
    let doubtful = doubtful(&view, known);
    if !doubtful.is_empty() {
        let detail = format!("`current` says {}, which `releases` does not list", doubtful.join(", "));
        return Err(Fault { kind: FaultKind::Malformed, detail });
    }
    Ok(view)
}

async fn in_place(workload: &WorkloadId, commands: &CommandHabitat) -> Result<Vec<(InstanceId, RevisionId)>, Fault> {
    let limit = commands.timeout.into();
    if commands.instances.is_empty() {
        let revision = command::current(workload, &commands.current, None, limit).await?;
        return Ok(vec![(InstanceId::new(workload.as_str()), revision)]);
    }
    let mut instances = Vec::with_capacity(commands.instances.len());
    for instance in &commands.instances {
        let argv = for_instance(&commands.current, instance);
        instances.push((instance.clone(), command::current(workload, &argv, Some(instance), limit).await?));
    }
    Ok(instances)
}

/// The releases in place that are neither listed nor were in place before.
fn doubtful<'a>(view: &'a ReleaseView, known: Option<&ReleaseView>) -> Vec<&'a str> {
    let is_listed = |release: &RevisionId| view.available.iter().any(|listed| listed.revision == *release);
    let was_there = |placed| known.is_some_and(|known| known.instances.contains(placed));
    let placed = view.instances.iter().filter(|placed| !is_listed(&placed.1) && !was_there(placed));
    placed.map(|(_, release)| release.as_str()).collect()
}

/// `{instance}` stands for a whole argument.
fn for_instance(argv: &[String], instance: &InstanceId) -> Vec<String> {
    argv.iter().map(|word| if word == INSTANCE { instance.to_string() } else { word.clone() }).collect()
}

fn local(detail: String) -> Fault {
    Fault { kind: FaultKind::Local, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Release;

    fn view(place: &str, listed: &[&str]) -> ReleaseView {
        ReleaseView {
            instances: vec![("api".into(), place.into())],
            available: listed.iter().map(|name| Release { revision: (*name).into(), image: None }).collect(),
            ..ReleaseView::default()
        }
    }

    #[test]
    fn what_is_not_listed_is_doubted_until_it_was_in_place() {
        let known = view("v2", &["v1"]);
        assert_eq!(doubtful(&view("null", &["v2", "v1"]), Some(&known)), ["null"]);
        assert_eq!(doubtful(&view("v2", &["v1"]), None), ["v2"], "nothing is known after a start");
        assert_eq!(doubtful(&view("v2", &["v1"]), Some(&known)), [""; 0], "it is where it was");
        assert_eq!(doubtful(&view("v3", &["v3", "v1"]), Some(&known)), [""; 0]);
    }

    /// A tool that has nothing to say says `null`, and succeeds.
    #[tokio::test]
    async fn a_release_that_is_not_listed_is_not_believed() {
        let argv = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let saying = |current: &str| CommandHabitat {
            current: argv(&format!("echo {current}")),
            releases: argv("echo v2; echo v1"),
            rollback: argv("true"),
            status: None,
            check: None,
            retire: None,
            instances: Vec::new(),
            timeout: Span::from_secs(20),
        };
        let api = WorkloadId::new("api");
        let seen = by_command(&api, &saying("v2"), None).await.unwrap();
        let said = by_command(&api, &saying("null"), Some(&seen)).await.unwrap_err();
        assert_eq!(said.kind, FaultKind::Malformed);
        assert!(said.detail.contains("null, which `releases` does not list"), "{}", said.detail);
        let unlisted = CommandHabitat { releases: argv("echo v1"), ..saying("v2") };
        let seen = by_command(&api, &unlisted, Some(&seen)).await.unwrap();
        assert_eq!(seen.instances[0].1.as_str(), "v2", "it was in place while it was listed");
    }
}
