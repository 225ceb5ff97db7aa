//! A daemon that can't start watches nothing, and nobody would know: people are told at once, past the outbox, which may
//! be what is missing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::model::Config;
use crate::domain::id::ReceiverName;
use crate::domain::incident::narrate;
use crate::domain::policy::WorkloadPolicy;
use crate::engine::ports::Notice;
use crate::notify::{self, Receivers};
use crate::store::StoreError;

/// Time between two messages about it, however often the service manager starts the daemon anew.
const TELL_AGAIN: Duration = Duration::from_secs(900);

/// The file that says when people were told last.
const TOLD: &str = "told-of-no-start";

/// Whom to tell where the daemon can't start.
pub(super) struct Unstarted {
    policies: Vec<Arc<WorkloadPolicy>>,
    receivers: Receivers,
    told: PathBuf,
}

impl Unstarted {
    /// Everybody who is told of a workload. `runtime` is what the service manager keeps between two starts, as it says in
    /// `RUNTIME_DIRECTORY`; without it the state directory is asked, which may be what is broken: then people are told at
    /// every start.
    pub(super) fn new(config: &Config, runtime: Option<OsString>) -> Self {
        let policies = config.workloads.values().map(|workload| Arc::clone(&workload.policy)).collect();
        let first = runtime.and_then(|paths| std::env::split_paths(&paths).next());
        let told = first.unwrap_or_else(|| config.daemon.state_dir.clone()).join(TOLD);
        Self { policies, receivers: Arc::new(config.receivers.clone()), told }
    }

    /// Tells why it does not start. That another daemon has the state directory is told to whoever started this one: the
    /// other one watches.
    pub(super) async fn tell(&self, error: &anyhow::Error) {
        let is_watched = matches!(error.downcast_ref(), Some(StoreError::InUse { .. }));
        let Some(first) = self.policies.first().filter(|_| !is_watched) else { return };
        if is_recent(&self.told) {
            tracing::warn!(within = ?TELL_AGAIN, "people were told a short while ago: not again");
            return;
        }
        let alert = narrate::not_started(first, &format!("{error:#}"), clock::wall());
        let notice = Notice { alert, receivers: self.everybody() };
        let is_told = notify::tell_at_once(&self.receivers, &notice, clock::wall()).await;
        if is_told && let Err(error) = fs::write(&self.told, "") {
            tracing::warn!(%error, "that people were told can't be noted: they are told again at the next start");
        }
    }

    /// It has started: the next trouble is told at once. What is to be told of it, where people were told that it did not.
    pub(super) fn is_over(&self) -> Option<Notice> {
        // Mostly it is not there.
        fs::remove_file(&self.told).ok()?;
        let now = clock::wall();
        let alert = narrate::over(&narrate::not_started(self.policies.first()?, "", now), "it has started", now);
        Some(Notice { alert, receivers: self.everybody() })
    }

    fn everybody(&self) -> Vec<ReceiverName> {
        let receivers: BTreeSet<ReceiverName> = self.policies.iter().flat_map(|policy| policy.notify.clone()).collect();
        receivers.into_iter().collect()
    }
}

fn is_recent(told: &Path) -> bool {
    let modified = fs::metadata(told).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age < TELL_AGAIN)
}
