//! SIGHUP: the policy is read anew. A bad one changes nothing and says so.

use std::sync::Arc;

use super::{Daemon, fold, load, receivers_of, status_line};
use crate::cli::RunArgs;
use crate::config::model::Config;
use crate::engine::Adoption;

/// Reads the policy anew and puts it in force.
pub(super) struct Reloader {
    args: RunArgs,
    config: Config,
}

impl Reloader {
    pub(super) const fn new(args: RunArgs, config: Config) -> Self {
        Self { args, config }
    }

    pub(super) async fn reload(&mut self, daemon: &Daemon) {
        daemon.notifier.reloading();
        match load(&self.args) {
            Ok(config) => self.put_in_force(config, daemon).await,
            Err(failure) => {
                tracing::error!(
                    error = format!("{:#}", failure.error),
                    "the new policy is not valid: nothing is changed"
                );
                daemon.notifier.ready(&format!("policy not valid, the old one stays; {}", status_line(&self.config)));
            }
        }
    }

    async fn put_in_force(&mut self, config: Config, daemon: &Daemon) {
        if config.daemon != self.config.daemon {
            tracing::warn!("changes to [daemon] take effect at the next start");
        }
        let states = match fold(&daemon.store).await {
            Ok(states) => states,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the journal can't be read: nothing is changed");
                daemon.notifier.ready(&status_line(&self.config));
                return;
            }
        };
        let adoptions = config.workloads.iter().map(|(id, workload)| Adoption {
            policy: Arc::clone(&workload.policy),
            state: states.iter().find(|(known, _)| known == id).map(|(_, state)| state.clone()).unwrap_or_default(),
        });
        if let Err(error) = daemon.engine.adopt(adoptions.collect()).await {
            tracing::error!(%error, "the new policy is not put in force: nothing is changed");
            daemon
                .notifier
                .ready(&format!("policy not put in force, the old one stays; {}", status_line(&self.config)));
            return;
        }
        daemon.observers.apply(&config);
        // Whoever drains the outbox has gone only if the daemon is being taken apart.
        let _ = daemon.receivers.send(receivers_of(&config));
        tracing::info!(workloads = config.workloads.len(), "policy reloaded");
        daemon.notifier.ready(&status_line(&config));
        self.config = config;
    }
}
