//! Which releases are in place: looked at often, told when it changes and once an interval.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::change::Outlook;
use super::duty::{Due, Duty, Paces};
use super::grid::{SHORTEST_PACE, fast};
use super::shared::Shared;
use crate::domain::id::{InstanceId, WorkloadId};
use crate::domain::observation::{Fault, FaultKind, ReleaseView, Seen};
use crate::domain::policy::{CommandHabitat, Habitat, ReleaseDir, ReleaseInstance};
use crate::domain::response::strategy::command::INSTANCE;
use crate::domain::time::{Span, Timestamp};
use crate::host::{command, release_dir};

/// Links are looked at no less often than this.
const SLOWEST_LINKS: Span = Span::from_secs(1);
/// Commands are run no more often than this,
const FASTEST_COMMANDS: Span = Span::from_secs(1);
/// and no less often than this.
const SLOWEST_COMMANDS: Span = Span::from_secs(5);
/// How long the disk may take.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// The looks at a workload's releases.
#[derive(Debug)]
pub(super) struct Releases {
    workload: WorkloadId,
    habitat: Habitat,
    heartbeat: Span,
    told: Option<(Timestamp, Result<ReleaseView, Fault>)>,
    /// A read of the disk that has not come back.
    reading: Option<JoinHandle<Result<ReleaseView, Fault>>>,
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
            let runs = u64::try_from(commands.instances.len()).unwrap_or(u64::MAX).max(1).saturating_add(1);
            commands.timeout.times(runs).into()
        }
    }
}

impl Duty for Releases {
    async fn look(&mut self, due: Due) -> Vec<Seen> {
        let began = Instant::now();
        let result = self.view().await;
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
        Self { workload, habitat, heartbeat: interval, told: None, reading: None, outlook, shared }
    }

    async fn view(&mut self) -> Result<ReleaseView, Fault> {
        match &self.habitat {
            Habitat::Command(commands) => by_command(&self.workload, commands).await,
            Habitat::Kubernetes(_) => Err(local("this daemon does not follow workloads in a cluster".to_owned())),
            Habitat::ReleaseDir(place) => {
                // One thread at most waits for a disk that hangs.
                let reading = self.reading.get_or_insert_with(|| {
                    let place = place.clone();
                    tokio::task::spawn_blocking(move || on_disk(&place))
                });
                let Ok(read) = timeout(DISK_PATIENCE, reading).await else {
                    return Err(local(format!("the disk did not answer within {} s", DISK_PATIENCE.as_secs())));
                };
                self.reading = None;
                read.unwrap_or_else(|error| Err(local(format!("the reader ended: {error}"))))
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
    Ok(ReleaseView { instances, available, orchestrated: None })
}

async fn by_command(workload: &WorkloadId, commands: &CommandHabitat) -> Result<ReleaseView, Fault> {
    let limit = commands.timeout.into();
    let mut instances = Vec::new();
    if commands.instances.is_empty() {
        let revision = command::current(workload, &commands.current, None, limit).await?;
        instances.push((InstanceId::new(workload.as_str()), revision));
    }
    for instance in &commands.instances {
        let argv = for_instance(&commands.current, instance);
        instances.push((instance.clone(), command::current(workload, &argv, Some(instance), limit).await?));
    }
    let available = command::releases(workload, &commands.releases, limit).await?;
    Ok(ReleaseView { instances, available, orchestrated: None })
}

/// `{instance}` stands for a whole argument.
fn for_instance(argv: &[String], instance: &InstanceId) -> Vec<String> {
    argv.iter().map(|word| if word == INSTANCE { instance.to_string() } else { word.clone() }).collect()
}

fn local(detail: String) -> Fault {
    Fault { kind: FaultKind::Local, detail }
}
