//! How a plan is ended before its time: where between its steps the workload is whole, and what is left to be given back.

use super::plan::{Plan, Purpose, Step, StepKind};
use crate::domain::incident::state::{self, MovedSetting};
use crate::domain::time::{Span, Timestamp};

/// How long giving instances back may take.
const TIMEOUT: Span = Span::from_secs(30);

/// How many of a plan's steps must be done, where so many were begun, until the workload is whole: what was scaled down is
/// scaled up again, what was pointed at another release was started with it, and settings belong to what is in place. No more
/// than that is begun.
#[must_use]
pub fn must_go_to(plan: &Plan, begun: usize) -> usize {
    if plan.purpose == Purpose::Whole {
        return plan.steps.len();
    }
    let (mut begun, mut whole_at) = (begun, 0);
    loop {
        let taken = plan.steps.iter().take(begun);
        let ends = taken.enumerate().filter_map(|(index, step)| end_of(plan, index, step));
        let next = ends.max().unwrap_or(0);
        if next <= whole_at {
            return whole_at;
        }
        // What is done on the way may begin something as well.
        (begun, whole_at) = (begun.max(next), next);
    }
}

/// The plan that gives a workload the instances back that another took from it, where so many steps of that were begun and so
/// many are done, and the settings that were put back ahead of their release. Whoever gave it instances meanwhile meant that.
#[must_use]
pub fn giving_back(
    plan: &Plan,
    (begun, done): (usize, usize),
    moved: &[MovedSetting],
    deadline: Timestamp,
) -> Option<Plan> {
    if plan.purpose == Purpose::Whole {
        return None;
    }
    let restored = |step: &Step| matches!(step.kind, StepKind::RestoreTemplate { .. });
    let is_at_goal = plan.steps.iter().take(done).any(restored);
    let release = if is_at_goal { &plan.to } else { &plan.from };
    let up = plan.steps.iter().take(begun).enumerate().find_map(|(index, step)| {
        let up = end_of(plan, index, step).filter(|end| *end > done)?;
        let StepKind::Scale { object, replicas, .. } = &plan.steps.get(up - 1)?.kind else { return None };
        let (object, expect) = (object.clone(), release.clone());
        Some(StepKind::Scale { object, expect, replicas: *replicas, only_from: Some(0), at_any: true })
    });
    let mut steps = state::forward(moved);
    steps.extend(up.map(|kind| Step { kind, timeout: TIMEOUT }));
    (!steps.is_empty()).then(|| Plan {
        attempt: plan.attempt + 1,
        purpose: Purpose::Whole,
        strategy: plan.strategy,
        from: plan.from.clone(),
        to: release.clone(),
        steps,
        deadline,
    })
}

/// How many steps are done once what a step begins is over; none where it is whole in itself.
fn end_of(plan: &Plan, index: usize, step: &Step) -> Option<usize> {
    let later = || plan.steps.iter().enumerate().skip(index + 1);
    let ends =
        |is_end: &dyn Fn(&StepKind) -> bool| later().find(|(_, step)| is_end(&step.kind)).map(|(end, _)| end + 1);
    match &step.kind {
        StepKind::Scale { object: down, replicas: 0, .. } => {
            ends(&|kind| matches!(kind, StepKind::Scale { object, replicas: 1.., .. } if object == down))
        }
        StepKind::SwitchLink { instance: switched, .. } => {
            ends(&|kind| matches!(kind, StepKind::Restart { instance, .. } if instance == switched))
        }
        StepKind::RestoreSetting { .. } => plan.turns_at().filter(|turn| *turn > index).map(|turn| turn + 1),
        StepKind::Scale { .. }
        | StepKind::Restart { .. }
        | StepKind::Command { .. }
        | StepKind::RestoreTemplate { .. }
        | StepKind::DeleteStuck { .. }
        | StepKind::DeleteCanary { .. }
        | StepKind::PauseOwner { .. }
        | StepKind::PutBackOwner { .. }
        | StepKind::AwaitRollout { .. }
        | StepKind::AwaitGone { .. }
        | StepKind::AwaitCapacity { .. }
        | StepKind::SwitchService { .. }
        | StepKind::ProveTraffic { .. }
        | StepKind::AwaitWell { .. }
        | StepKind::Gate { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::InstanceId;
    use crate::domain::policy::{ClusterObject, ObjectKind, Pin, Restart, Strategy};

    fn plan(purpose: Purpose, kinds: Vec<StepKind>) -> Plan {
        Plan {
            attempt: 1,
            purpose,
            strategy: Strategy::Direct,
            from: "v2".into(),
            to: "v1".into(),
            steps: kinds.into_iter().map(|kind| Step { kind, timeout: Span::from_secs(1) }).collect(),
            deadline: Timestamp::default(),
        }
    }

    fn object() -> ClusterObject {
        ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: "app".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn scale(replicas: u32, expect: &str) -> StepKind {
        StepKind::Scale { object: object(), expect: expect.into(), replicas, only_from: None, at_any: false }
    }

    fn direct() -> Plan {
        let source = Pin { name: "r".to_owned(), uid: "r".to_owned() };
        let restore = StepKind::RestoreTemplate { object: object(), expect: "v2".into(), to: "v1".into(), source };
        let wait = StepKind::AwaitRollout { release: "v1".into(), at_least: 1, enough: None, is_short: false };
        plan(Purpose::First, vec![scale(0, "v2"), restore, scale(3, "v1"), wait])
    }

    #[test]
    fn what_was_scaled_down_is_whole_once_it_is_scaled_up() {
        let direct = direct();
        let ends: Vec<usize> = (0..=4).map(|begun| must_go_to(&direct, begun)).collect();
        assert_eq!(ends, [0, 3, 3, 3, 3]);
        assert_eq!(must_go_to(&plan(Purpose::First, vec![scale(0, "v3")]), 1), 0, "a canary is to stay down");
        let canary = ClusterObject { name: "canary".to_owned(), ..object() };
        let down = StepKind::Scale { object: canary, expect: "v3".into(), replicas: 0, only_from: None, at_any: false };
        let away = plan(Purpose::First, vec![scale(3, "v1"), down]);
        assert_eq!([must_go_to(&away, 1), must_go_to(&away, 2)], [0, 0], "what serves keeps what it got");
        assert_eq!(away.turns_at(), Some(1), "growing takes nothing back");
        assert_eq!(must_go_to(&plan(Purpose::Whole, vec![scale(3, "v2")]), 0), 1);
    }

    #[test]
    fn what_is_given_back_is_at_whichever_release_it_came_to() {
        let direct = direct();
        let back = |begun, done| {
            let plan = giving_back(&direct, (begun, done), &[], Timestamp::default())?;
            let StepKind::Scale { expect, replicas: 3, only_from: Some(0), at_any: true, .. } = &plan.steps[0].kind
            else {
                panic!("{plan:?}")
            };
            assert_eq!((plan.steps.len(), plan.purpose, expect), (1, Purpose::Whole, &plan.to));
            Some(plan.to.as_str().to_owned())
        };
        assert_eq!(back(0, 0), None);
        assert_eq!([back(1, 0), back(2, 1)], [Some("v2".to_owned()), Some("v2".to_owned())]);
        assert_eq!(back(3, 2).as_deref(), Some("v1"));
        assert_eq!(back(3, 3), None, "it has them");
    }

    #[test]
    fn an_instance_that_was_pointed_elsewhere_is_started_and_no_other_is_touched() {
        let switch = |name: &str| StepKind::SwitchLink {
            instance: InstanceId::new(name),
            root: "/srv".into(),
            link: name.into(),
            releases: "releases".into(),
            expect: "v2".into(),
            to: "v1".into(),
        };
        let restart = |name: &str| StepKind::Restart {
            instance: InstanceId::new(name),
            how: Restart::Unit(format!("{name}.service")),
            pointed: None,
        };
        let one_by_one = plan(Purpose::First, vec![switch("a"), restart("a"), switch("b"), restart("b")]);
        let ends: Vec<usize> = (0..=4).map(|begun| must_go_to(&one_by_one, begun)).collect();
        assert_eq!(ends, [0, 2, 2, 4, 4]);
        let at_once = plan(Purpose::First, vec![switch("a"), switch("b"), restart("a"), restart("b")]);
        assert_eq!([must_go_to(&at_once, 0), must_go_to(&at_once, 1)], [0, 4]);
        assert_eq!(
            giving_back(&at_once, (2, 1), &[], Timestamp::default()),
            None,
            "a link leads to one release or the other"
        );
    }
}
