//! The rules by which pages are taken in, worked out once from the policy.

use super::FRESH_INTERVALS;
use super::ring::Keep;
use super::series::Role;
use super::trigger::MAX_UNKNOWN_INTERVALS;
use crate::domain::policy::{Formula, Habitat, OperandId, Signal, Strategy, WorkloadPolicy};
use crate::domain::time::Span;

/// Beyond its longest window a ring keeps this many intervals, so that a late assessment still finds its edge.
const SLACK_INTERVALS: u64 = 5;

/// The rules by which pages are taken in, the same for all targets of a workload.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What each operand is read for.
    pub(super) roles: Vec<Role>,
    /// How long each operand's increases are kept.
    pub(super) keep: Vec<Keep>,
    /// How long events are kept.
    pub(super) keep_events: Keep,
    /// A target that was not seen for longer begins anew.
    pub(super) gap: Span,
    /// How much earlier than its rollout was noticed a release's process may have begun.
    pub(super) slack: Span,
    /// Whether a rollout always begins new processes, so that an older one is of the release before.
    pub(super) replaces_processes: bool,
}

impl Rules {
    pub(super) fn new(policy: &WorkloadPolicy) -> Self {
        let slack = policy.interval.times(SLACK_INTERVALS);
        let operands = policy.operands.as_slice();
        let mut roles: Vec<Role> =
            operands.iter().map(|operand| Role { kind: operand.kind, counter: false, level: false }).collect();
        // The shortest and the longest that each is read over.
        let mut windows: Vec<Option<(Span, Span)>> = vec![None; operands.len()];
        for signal in policy.signals.values() {
            let window = reach(policy, signal);
            for (operand, part) in signal.candidates.iter().flat_map(|candidate| reads(candidate.formula)).flatten() {
                let index = usize::from(operand.0);
                let (Some(role), Some(windows)) = (roles.get_mut(index), windows.get_mut(index)) else { continue };
                match part {
                    Use::Increase => {
                        role.counter = true;
                        let (shortest, longest) = windows.unwrap_or((signal.window, window));
                        *windows = Some((shortest.min(signal.window), longest.max(window)));
                    }
                    Use::Latest => role.level = true,
                }
            }
        }
        let longest = policy.signals.values().map(|signal| reach(policy, signal)).max().unwrap_or(Span::ZERO);
        Self {
            roles,
            keep: windows
                .into_iter()
                .map(|windows| windows.unwrap_or_default())
                .map(|(shortest, longest)| Keep::new(longest + slack).exact_for(shortest + slack))
                .collect(),
            keep_events: Keep::new(longest + slack),
            gap: policy.interval.times(MAX_UNKNOWN_INTERVALS),
            slack: policy.interval.times(FRESH_INTERVALS) + Span::from_secs(1),
            replaces_processes: replaces_processes(policy),
        }
    }
}

/// How far back a signal is read. Requests since a trigger's onset are added up as they come, so that its duration
/// needs no longer memory.
fn reach(policy: &WorkloadPolicy, signal: &Signal) -> Span {
    let is_checked = policy.verify.checks.iter().any(|check| check.signal == signal.name);
    if is_checked { signal.window.max(policy.verify.stable_for) } else { signal.window }
}

/// What a formula reads of an operand.
#[derive(Clone, Copy)]
enum Use {
    Increase,
    Latest,
}

fn reads(formula: Formula) -> [Option<(OperandId, Use)>; 2] {
    match formula {
        Formula::Ratio { bad, total } => [Some((bad, Use::Increase)), Some((total, Use::Increase))],
        Formula::Histogram { buckets, .. } => [Some((buckets, Use::Increase)), None],
        Formula::Rate { counter } => [Some((counter, Use::Increase)), None],
        Formula::Summary { quantiles, .. } => [Some((quantiles, Use::Latest)), None],
        Formula::Gauge { gauge, .. } => [Some((gauge, Use::Latest)), None],
        Formula::Query | Formula::Builtin(_) => [None, None],
    }
}

/// Release directories run what the symlink names only once restarted; with commands that switch traffic the other
/// release's processes may be there long before.
fn replaces_processes(policy: &WorkloadPolicy) -> bool {
    match (&policy.habitat, policy.strategy) {
        (Habitat::ReleaseDir(_), _) | (Habitat::Command(_), Strategy::Direct | Strategy::Rolling) => true,
        // A pod has one release for life.
        (Habitat::Kubernetes(_), _) => true,
        (Habitat::Command(_), Strategy::BlueGreen | Strategy::Canary) => false,
    }
}
