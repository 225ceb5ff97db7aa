//! The usual exporters' series by which built-in signals are replayed.

/// What a series of a usual exporter tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Tells {
    /// Whether a scrape succeeded (Prometheus).
    Up,
    /// When the process behind a page started (client libraries).
    ProcessStart,
    /// Whether a health probe succeeded (blackbox exporter).
    Probe,
    /// Processes killed for memory (cAdvisor).
    OomKills,
    /// Times that a container was restarted (kube-state-metrics).
    Restarts,
    /// Replicas that a Deployment has (kube-state-metrics).
    Replicas,
    /// Replicas of it that are in service (kube-state-metrics).
    Available,
    /// How often its specification was changed (kube-state-metrics).
    Generation,
    /// Replicas that its specification asks for (kube-state-metrics).
    Wanted,
}

impl Tells {
    /// Whether it is a number of replicas that are there.
    pub(super) const fn is_about_replicas(self) -> bool {
        matches!(self, Tells::Replicas | Tells::Available)
    }

    /// Whether it is about the workload as a whole, and comes from an instance that is none of its own.
    pub(super) const fn is_of_whole(self) -> bool {
        match self {
            Tells::Replicas | Tells::Available | Tells::Generation | Tells::Wanted => true,
            Tells::Up | Tells::ProcessStart | Tells::Probe | Tells::OomKills | Tells::Restarts => false,
        }
    }
}

const KNOWN: [(&str, Tells); 9] = [
    ("up", Tells::Up),
    (crate::observe::exposition::PROCESS_START, Tells::ProcessStart),
    ("probe_success", Tells::Probe),
    ("container_oom_events_total", Tells::OomKills),
    ("kube_pod_container_status_restarts_total", Tells::Restarts),
    ("kube_deployment_status_replicas", Tells::Replicas),
    ("kube_deployment_status_replicas_available", Tells::Available),
    ("kube_deployment_status_observed_generation", Tells::Generation),
    ("kube_deployment_spec_replicas", Tells::Wanted),
];

/// Values of an expression of the policy, by the label `signal`: what was evaluated over a server's history, or recorded
/// by a rule.
pub(super) const QUERY: &str = "rollbackd:query";

/// The names of the usual exporters' series.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

/// What a series of this name tells.
pub(super) fn tells(name: &str) -> Option<Tells> {
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, tells)| *tells)
}

/// Whether a series of this name tells anything.
pub(super) fn is_known(name: &str) -> bool {
    tells(name).is_some() || name == QUERY
}

/// Whether the changes of such a series tell of rollouts.
pub(super) fn tells_by_steps(name: &str) -> bool {
    matches!(tells(name), Some(Tells::ProcessStart | Tells::Generation | Tells::Wanted))
}
