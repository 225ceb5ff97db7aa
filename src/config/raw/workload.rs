//! `[workload.NAME]` and `[defaults]`.

use super::decode::{At, Named};
use super::habitat::{Command, Kubernetes, ReleaseDir};
use super::promql::Prometheus;
use super::section::section;
use super::signal::Signal;
use super::sources::{Health, Scrape};
use super::trigger::Trigger;
use super::verify::Verify;
use crate::domain::policy::{Gitops, Mode, Strategy};
use crate::domain::time::Span;

section! {
    /// Everything about a workload but where it runs.
    Policy {
        /// How a bad release is taken back: direct, rolling, blue-green or canary.
        strategy: Strategy,
        /// How far the daemon may go here: enforce, approve or observe. Never freer than the daemon's own mode.
        mode: Mode,
        /// Time between two looks at one target.
        interval: Span,
        /// How long after a rollout a fault is put down to it; later it is alerted, not rolled back.
        probation: Span,
        /// How long a release must be seen healthy under traffic before it is known good.
        known_good_after: Span,
        /// How long one attempt at a rollback, its verification included, may take; a retry and one to an older release may follow. The strategy's by default: direct 5m, rolling 15m, blue-green 1m, canary 3m.
        deadline: Span,
        /// Time between two rollbacks.
        cooldown: Span,
        /// Rollbacks within 24 hours.
        per_day: u64,
        /// Where Argo CD or Flux owns the workload: alert, so that nothing is rolled back and people are told, or pause, so that the owner is paused for a time.
        gitops: Gitops,
        /// How long such an owner stays paused at most; not shorter than `deadline`.
        gitops_limit: Span,
        /// What a process that began with or after a rollout measures of latency in its first so long counts for nothing.
        warmup: Span,
        /// Receivers that are told.
        notify: Vec<At<String>>,
        /// Exposition pages.
        scrape: Scrape,
        /// Health endpoints.
        health: Health,
        /// The Prometheus server that evaluates signals with `promql`.
        prometheus: Prometheus,
        /// Signals, by name.
        signal: Named<Signal>,
        /// When something is wrong. Without any: error rate above 10% for 5m, p99 latency above 5s for 2m, OOM kills, crash loops, and health above 50% for 2m.
        trigger: Vec<At<Trigger>>,
        /// What proves that the service is well again.
        verify: Verify,
    }
    refused {
        "limits": "`cooldown` and `per_day` stand in the workload itself",
    }
}

section! {
    /// A workload: where it runs, exactly one of release_dir, command and kubernetes, and its policy.
    Workload {
        /// A plain host: a directory of releases and a symlink that names the current one.
        release_dir: ReleaseDir,
        /// Anything else: the operator's own commands.
        command: Command,
        /// Workloads of a Kubernetes cluster, exactly as they are.
        kubernetes: Kubernetes,
    }
    flatten { policy: Policy }
}

section! {
    /// What every workload has unless it says otherwise.
    Defaults {}
    flatten { policy: Policy }
    refused {
        "release_dir": "where a workload runs is its own: write it in [workload.NAME]",
        "command": "where a workload runs is its own: write it in [workload.NAME]",
        "kubernetes": "where a workload runs is its own: write it in [workload.NAME]",
    }
}
