//! Steps between two colours in a cluster: what waits is made ready for the traffic, gets it, and proves that it has it.

use crate::domain::id::RevisionId;
use crate::domain::observation::Orchestrated;
use crate::domain::policy::{Ask, ClusterObject, Switch, WorkloadPolicy};
use crate::domain::response::plan::{Step, StepKind};
use crate::domain::time::Span;

use super::kubernetes::WRITE_TIMEOUT;
use super::{GATE_ANSWERS, TRAFFIC_ANSWERS};

/// How long the switch may wait for the capacity that was there a moment ago, and the traffic may take to follow: the
/// controller of endpoints and the proxies on all nodes take seconds.
const TRAFFIC_TIMEOUT: Span = Span::from_secs(30);

/// What the policy says of the way between colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// As [`crate::domain::policy::KubernetesSubject::BlueGreen`].
    pub(super) retire: bool,
    /// The same.
    pub(super) ask: Option<&'a Ask>,
}

/// One of the two.
struct Colour<'a> {
    object: &'a ClusterObject,
    replicas: u32,
}

/// Both colours, by their part in the rollback.
struct Pair<'a> {
    good: Colour<'a>,
    bad: Colour<'a>,
    switch: Switch,
}

impl<'a> Pair<'a> {
    /// The traffic may be at the goal already: then this is done once more.
    fn find(orchestrated: &'a Orchestrated, from: &RevisionId, to: &RevisionId) -> Option<Self> {
        let idle = orchestrated.idle.as_ref()?;
        let serving = Colour { object: &orchestrated.object, replicas: orchestrated.replicas };
        let waiting = Colour { object: &idle.object, replicas: idle.replicas };
        if orchestrated.desired == *from && idle.release == *to {
            Some(Self { good: waiting, bad: serving, switch: idle.switch.clone() })
        } else if orchestrated.desired == *to && idle.release == *from {
            Some(Self { good: serving, bad: waiting, switch: idle.switch.reversed() })
        } else {
            None
        }
    }
}

/// The steps from one colour to the other; `None` where the two releases are not the two colours', nothing where neither
/// has an instance.
pub(super) fn steps(
    policy: &WorkloadPolicy,
    way: Way<'_>,
    orchestrated: &Orchestrated,
    from: &RevisionId,
    to: &RevisionId,
) -> Option<Vec<Step>> {
    let Pair { good, bad, switch } = Pair::find(orchestrated, from, to)?;
    let wanted = good.replicas.max(bad.replicas);
    if wanted == 0 {
        return Some(Vec::new());
    }
    let step = |kind, timeout| Step { kind, timeout };
    let scale = |object: &ClusterObject, expect: &RevisionId, replicas| {
        step(
            StepKind::Scale {
                object: object.clone(),
                expect: expect.clone(),
                replicas,
                only_from: None,
                at_any: false,
            },
            WRITE_TIMEOUT,
        )
    };
    let at_least = if bad.replicas > 0 { bad.replicas } else { wanted };
    let answers = if way.ask.is_some_and(|ask| ask.page.is_some()) { GATE_ANSWERS } else { 0 };
    let await_capacity = StepKind::AwaitCapacity { release: to.clone(), at_least, answers };
    let prove = StepKind::ProveTraffic {
        object: good.object.clone(),
        release: to.clone(),
        switch: Box::new(switch.clone()),
        at_least,
        ask: way.ask.cloned().map(Box::new),
        answers: TRAFFIC_ANSWERS,
    };
    let switch = StepKind::SwitchService { object: good.object.clone(), to: to.clone(), switch: Box::new(switch) };
    let mut steps = Vec::new();
    if good.replicas < wanted {
        steps.push(scale(good.object, to, wanted));
    }
    steps.push(step(await_capacity, policy.deadline));
    steps.push(step(switch, TRAFFIC_TIMEOUT));
    steps.push(step(prove, TRAFFIC_TIMEOUT));
    if way.retire {
        steps.push(step(StepKind::AwaitWell { release: to.clone() }, policy.deadline));
        steps.push(scale(bad.object, from, 0));
    }
    Some(steps)
}
