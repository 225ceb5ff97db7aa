//! SIGHUP: the policy is read anew. A bad one changes nothing and says so. Workloads that only the cluster names follow by
//! themselves.

use std::sync::Arc;
use std::time::Duration;

use super::{Daemon, fold, load, memory, receivers_of, status_line};
use crate::cli::RunArgs;
use crate::config::model::{self, Config};
use crate::config::selected::Selected;
use crate::domain::health::memory::Memory;
use crate::domain::id::WorkloadId;
use crate::engine::Adoption;
use crate::observe::{Crowd, Selections};

/// How long the first look at what is selected may take, before everything else goes on without it.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Reads the policy anew and puts it in force.
pub(super) struct Reloader {
    args: RunArgs,
    selections: Selections,
    in_force: Arc<InForce>,
    /// `[daemon]` as it was at the start, which most of it stays.
    started: model::Daemon,
}

/// The policy in force.
pub(super) struct InForce {
    /// As it is written.
    written: Config,
    selected: Selected,
    /// With the workloads that are selected.
    config: Config,
}

impl InForce {
    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a workload is in the policy, or may be selected by what was not looked at yet.
    pub(super) fn may_know(&self, workload: &WorkloadId) -> bool {
        self.config.workloads.contains_key(workload) || self.written.may_select(&self.selected, workload)
    }
}

impl Reloader {
    /// Looks at what a policy selects, and takes it for the one in force.
    pub(super) async fn begin(args: RunArgs, written: Config) -> Self {
        crate::net::tls::install();
        let mut selections = Selections::default();
        let (selected, config) = look(&mut selections, &written).await;
        let started = written.daemon.clone();
        Self { args, selections, in_force: Arc::new(InForce { written, selected, config }), started }
    }

    /// What is in force.
    pub(super) const fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    pub(super) fn config(&self) -> &Config {
        &self.in_force.config
    }

    /// The watches of what the policy selects.
    pub(super) const fn crowd(&self) -> &Crowd {
        self.selections.crowd()
    }

    /// Waits until the cluster names other workloads than are in force.
    pub(super) async fn selection_changes(&mut self) {
        self.selections.changed().await;
    }

    /// Puts in force what is selected now.
    pub(super) async fn follow_selection(&mut self, daemon: &Daemon) {
        let selected = self.selections.selected();
        let written = self.in_force.written.clone();
        let config = expanded(&written, &selected);
        if !self.put_in_force(written, selected, config, daemon).await {
            self.selections.untold();
        }
    }

    pub(super) async fn reload(&mut self, daemon: &Daemon) {
        daemon.notifier.reloading();
        match load(&self.args) {
            // Most likely it is being written, or was cut off: who means it stops the daemon.
            Ok(written) if written.workloads.is_empty() && !self.in_force.written.workloads.is_empty() => {
                tracing::error!("the new policy names no workload: nothing is changed");
                let status = format!("policy names no workload, the old one stays; {}", status_line(self.config()));
                daemon.notifier.ready(&status);
            }
            Ok(written) => {
                for warning in written.warnings() {
                    tracing::warn!("{warning}");
                }
                let (selected, config) = look(&mut self.selections, &written).await;
                if !self.put_in_force(written, selected, config, daemon).await {
                    // What the policy in force selects goes on being followed.
                    self.selections.apply(&self.in_force.written);
                    self.selections.untold();
                }
            }
            Err(failure) => {
                tracing::error!(
                    error = format!("{:#}", failure.error),
                    "the new policy is not valid: nothing is changed"
                );
                daemon.notifier.ready(&format!("policy not valid, the old one stays; {}", status_line(self.config())));
            }
        }
    }

    /// Whether it was put in force.
    async fn put_in_force(&mut self, written: Config, selected: Selected, config: Config, daemon: &Daemon) -> bool {
        let waiting = waiting_for_a_start(&self.started, &config.daemon);
        if !waiting.is_empty() {
            tracing::warn!(
                keys = waiting.join(", "),
                "changes to these keys of [daemon] take effect at the next start"
            );
        }
        let (states, damaged) = match fold(&daemon.store).await {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the journal can't be read: nothing is changed");
                daemon.notifier.ready(&status_line(self.config()));
                return false;
            }
        };
        for leaving in self.config().workloads.keys().filter(|id| !config.workloads.contains_key(*id)) {
            daemon.keeper.keep_of(leaving.clone()).await;
        }
        let mut adoptions = Vec::with_capacity(config.workloads.len());
        for (id, workload) in &config.workloads {
            let state = match damaged.get(id) {
                Some(why) => Err(why.clone()),
                None => {
                    Ok(states.iter().find(|(known, _)| known == id).map(|(_, state)| state.clone()).unwrap_or_default())
                }
            };
            let memory = match self.config().workloads.contains_key(id) {
                true => Memory::default(),
                false => memory::kept(&daemon.store, id).await,
            };
            adoptions.push(Adoption { policy: Arc::clone(&workload.policy), state, memory });
        }
        if let Err(error) = daemon.engine.adopt(adoptions).await {
            tracing::error!(%error, "the new policy is not put in force: nothing is changed");
            daemon
                .notifier
                .ready(&format!("policy not put in force, the old one stays; {}", status_line(self.config())));
            return false;
        }
        daemon.observers.apply(&config);
        daemon.token.set(config.daemon.token_file.clone());
        // Whoever drains the outbox has gone only if the daemon is being taken apart.
        let _ = daemon.receivers.send(receivers_of(&config));
        tracing::info!(workloads = config.workloads.len(), "policy in force");
        daemon.notifier.ready(&status_line(&config));
        self.in_force = Arc::new(InForce { written, selected, config });
        // As above.
        let _ = daemon.in_force.send(Arc::clone(&self.in_force));
        true
    }
}

/// The keys of `[daemon]` that say something else than at the start, and are read only then.
fn waiting_for_a_start(started: &model::Daemon, now: &model::Daemon) -> Vec<&'static str> {
    // The mode is each workload's, and the token is taken at once.
    let model::Daemon { listen, state_dir, mode: _, token_file: _, keep_key_file, external_url, lease } = started;
    let keys = [
        ("listen", *listen != now.listen),
        ("state_dir", *state_dir != now.state_dir),
        ("keep_key_file", *keep_key_file != now.keep_key_file),
        ("external_url", *external_url != now.external_url),
        ("lease", *lease != now.lease),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

async fn look(selections: &mut Selections, written: &Config) -> (Selected, Config) {
    selections.apply(written);
    selections.all_seen(FIRST_LOOK).await;
    let selected = selections.selected();
    for (section, ..) in written.sought() {
        let found = selected.get(section);
        if found.is_none_or(|found| found.objects.is_none()) {
            let why = found.and_then(|found| found.unseen.as_deref()).unwrap_or("no answer yet");
            tracing::error!(%section, why, "its workloads are not known yet: the cluster does not say which they are");
        }
    }
    let config = expanded(written, &selected);
    (selected, config)
}

fn expanded(written: &Config, selected: &Selected) -> Config {
    let (config, left_out) = written.with_selected(selected);
    for (section, found) in selected {
        let Some(objects) = &found.objects else { continue };
        tracing::info!(%section, objects = objects.len(), "workloads that the cluster names");
    }
    if !left_out.is_empty() {
        tracing::warn!(workloads = left_out.join(", "), "left out: another section has them, or they are too many");
    }
    config
}
