//! The operator's smoke test: whether it passes, and what it said.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::id::WorkloadId;
use crate::domain::observation::Fault;
use crate::domain::policy::{Habitat, SmokeTest};
use crate::host::command::variables;
use crate::host::disk::Disk;
use crate::host::process::{self, Invocation, Leftovers};
use crate::host::{release_dir, text};

/// How much of the end of its output is kept, in bytes.
const MAX_TAIL: usize = 2 * 1024;

/// How long the disk may take to say which release is in effect.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the test in the directory of the release that is in effect, so that each release is tested by the script that it
/// came with; at the root directory where there are no release directories. Exit status 0 is a pass.
pub(super) async fn smoke(workload: &WorkloadId, habitat: &Habitat, smoke: &SmokeTest) -> (bool, String) {
    let directory = match working_directory(habitat).await {
        Ok(directory) => directory,
        Err(fault) => return (false, format!("not run: {fault}")),
    };
    let run = process::run(&Invocation {
        argv: &smoke.argv,
        variables: variables(workload, None, None),
        directory,
        limit: smoke.timeout.into(),
        leftovers: Leftovers::Hunted,
    })
    .await;
    match run {
        Ok(run) => {
            let said = text::tail(&run.output, MAX_TAIL);
            let separator = if said.is_empty() { "" } else { "\n" };
            (run.succeeded(), format!("{}{separator}{said}", run.end))
        }
        Err(error) => (false, format!("not run: {}", error.line())),
    }
}

async fn working_directory(habitat: &Habitat) -> Result<Option<PathBuf>, Fault> {
    let Habitat::ReleaseDir(host) = habitat else {
        return Ok(None);
    };
    let Some(instance) = host.instances.first() else {
        return Ok(Some(host.root.clone()));
    };
    let (root, link, releases) = (host.root.clone(), instance.current.clone(), host.releases.clone());
    let directory = host.root.join(&host.releases);
    let release = Disk::default().ask(DISK_PATIENCE, move || release_dir::current(&root, &link, &releases)).await??;
    Ok(Some(directory.join(release.as_str())))
}
