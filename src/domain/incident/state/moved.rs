//! Settings that were put back for a release which is not in place yet: they belong to it once it is, and are put forward
//! again where it never comes. What was made anew for it stays all the same, and is told of.

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::domain::id::RevisionId;
use crate::domain::incident::record::{Event, Record};
use crate::domain::policy::ClusterObject;
use crate::domain::response::plan::{Outcome, Purpose, Step, StepKind};
use crate::domain::settings::{ContentId, Setting};
use crate::domain::time::Span;

/// How long putting one forward may take.
const TIMEOUT: Span = Span::from_secs(30);

/// A setting that was put back ahead of its release, or may have been.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MovedSetting {
    /// The workload whose release names it.
    pub object: ClusterObject,
    /// Which.
    pub setting: Setting,
    /// What it said before.
    pub was: ContentId,
    /// The release with which it said so.
    pub with: RevisionId,
    /// What was written.
    pub is: ContentId,
    /// The release that it was written for.
    pub to: RevisionId,
    /// Whether that one's template, once the workload has it, makes it whole.
    pub is_by_template: bool,
    /// The attempt that wrote it.
    pub attempt: u32,
}

/// A setting that was made anew ahead of its release, or may have been. There was nothing that it could be put forward to, and
/// nothing is deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MadeSetting {
    /// The workload whose release names it.
    pub object: ClusterObject,
    /// Which.
    pub setting: Setting,
    /// The release that it was made for.
    pub to: RevisionId,
    /// The attempt that made it.
    pub attempt: u32,
}

impl MovedSetting {
    fn forward(&self) -> Step {
        let kind = StepKind::RestoreSetting {
            object: self.object.clone(),
            setting: self.setting.clone(),
            expect: Some(self.is.clone()),
            content: self.was.clone(),
            release: self.with.clone(),
            unless_at: self.is_by_template.then(|| self.to.clone()),
        };
        Step { kind, timeout: TIMEOUT }
    }
}

/// The steps that put them forward again, the last that was written first: each does nothing where its own write never came.
#[must_use]
pub fn forward(moved: &[MovedSetting]) -> Vec<Step> {
    moved.iter().rev().map(MovedSetting::forward).collect()
}

/// Whether a workload that is bound for this release has settings that were put back for another one: of several attempts those
/// of the last are there.
#[must_use]
pub fn are_apart(moved: &[MovedSetting], bound_for: &RevisionId) -> bool {
    moved.last().is_some_and(|moved| moved.to != *bound_for)
}

/// What differs from before, in words; nothing where nothing does.
#[must_use]
pub fn difference(incident: &Incident) -> Option<String> {
    let moved = incident.moved.iter().map(|moved| {
        let MovedSetting { object, setting, to, with, .. } = moved;
        format!("{setting} in {} may say what it said with {to}, not what it said with {with}", object.namespace)
    });
    let made = incident.made.iter().map(|made| {
        let MadeSetting { object, setting, to, .. } = made;
        format!("{setting} in {} may be there again, as it was with {to}, and is not taken away", object.namespace)
    });
    let told: Vec<String> = moved.chain(made).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Takes in what a record says of a step that moves a setting, or makes one. From the intent on it may be so, whatever comes
/// of it.
pub(super) fn note(incident: &mut Incident, record: &Record) {
    let (step, outcome) = match &record.event {
        // Attempts are counted anew, and what those before left behind is not undone by a refusal of the new ones.
        Event::Detected { .. } => return forget_attempts(incident),
        Event::StepStarted { step } => (*step, None),
        Event::StepFinished { step, outcome } => (*step, Some(outcome)),
        _ => return,
    };
    let (Some(plan), Ok(index)) = (&incident.plan, usize::try_from(step)) else { return };
    if plan.turns_at() == Some(index) && outcome.is_some_and(Outcome::is_done) {
        incident.moved.clear();
        incident.made.clear();
        return;
    }
    let Some(StepKind::RestoreSetting { object, setting, expect, content, .. }) =
        plan.steps.get(index).map(|step| &step.kind)
    else {
        return;
    };
    // What an earlier attempt may have written is not undone by this one's refusal.
    let is_refused = matches!(outcome, Some(Outcome::Conflict(_) | Outcome::Denied(_) | Outcome::NotBegun(_)));
    let Some(expect) = expect else {
        let (object, setting) = (object.clone(), setting.clone());
        let made = MadeSetting { object, setting, to: plan.to.clone(), attempt: plan.attempt };
        if is_refused {
            incident.made.retain(|known| *known != made);
        } else if !incident.made.iter().any(|known| known.setting == made.setting && known.to == made.to) {
            incident.made.push(made);
        }
        return;
    };
    let moved = &mut incident.moved;
    if plan.purpose == Purpose::Whole {
        // What somebody else wrote is no difference of ours.
        if outcome.is_some_and(|outcome| outcome.is_done() || matches!(outcome, Outcome::Conflict(_))) {
            moved.retain(|moved| moved.setting != *setting || moved.is != *expect || moved.was != *content);
        }
        return;
    }
    let is_it = |moved: &MovedSetting| moved.setting == *setting && moved.was == *expect && moved.is == *content;
    if is_refused {
        moved.retain(|moved| moved.attempt != plan.attempt || !is_it(moved));
    } else if outcome.is_none() && !moved.iter().any(is_it) {
        // What an earlier attempt wrote is of the release that it was written for.
        let before = moved.iter().rfind(|moved| moved.setting == *setting && moved.is == *expect);
        moved.push(MovedSetting {
            object: object.clone(),
            setting: setting.clone(),
            was: expect.clone(),
            with: before.map_or(&plan.from, |before| &before.to).clone(),
            is: content.clone(),
            to: plan.to.clone(),
            is_by_template: plan.turns_by_template(),
            attempt: plan.attempt,
        });
    }
}

fn forget_attempts(incident: &mut Incident) {
    let attempts = incident.moved.iter_mut().map(|moved| &mut moved.attempt);
    attempts.chain(incident.made.iter_mut().map(|made| &mut made.attempt)).for_each(|attempt| *attempt = 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::verdict::Assessment;
    use crate::domain::id::WorkloadId;
    use crate::domain::incident::record::{Cause, Goal};
    use crate::domain::incident::state::WorkloadState;
    use crate::domain::policy::{Mode, ObjectKind, Pin, Strategy};
    use crate::domain::response::plan::Plan;
    use crate::domain::settings::SettingKind;
    use crate::domain::time::Timestamp;

    fn object() -> ClusterObject {
        ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: "app".to_owned(),
            uid: "u1".to_owned(),
        }
    }

    fn restore(expect: Option<&str>, content: &str, release: &str) -> StepKind {
        StepKind::RestoreSetting {
            object: object(),
            setting: Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() },
            expect: expect.map(ContentId::new),
            content: ContentId::new(content),
            release: release.into(),
            unless_at: None,
        }
    }

    fn detected() -> Event {
        let cause =
            Cause::External { by: "ops".to_owned(), kind: "security".to_owned(), reason: "leak".to_owned(), key: None };
        let assessment = Assessment::nothing(Timestamp::default());
        Event::Detected {
            cause,
            from: None,
            onset: Timestamp::default(),
            goal: None,
            mode: Mode::Enforce,
            strategy: Strategy::Rolling,
            assessment: Box::new(assessment),
        }
    }

    /// A plan away from v3 whose first step puts a setting back, and which then gives it the template.
    fn planned(attempt: u32, purpose: Purpose, to: &str, first: StepKind) -> Event {
        let source = Pin { name: to.to_owned(), uid: to.to_owned() };
        let turn = StepKind::RestoreTemplate { object: object(), expect: "v3".into(), to: to.into(), source };
        let plan = Plan {
            attempt,
            purpose,
            strategy: Strategy::Rolling,
            from: "v3".into(),
            to: to.into(),
            steps: [first, turn].map(|kind| Step { kind, timeout: TIMEOUT }).into(),
            deadline: Timestamp::default(),
        };
        let goal = Goal { revision: to.into(), image: None, known_good_since: None };
        Event::Planned { plan: Box::new(plan), goal, forced: Vec::new(), grounds: None }
    }

    /// Both steps, of which the second ends like that.
    fn carried_out(turn: Outcome) -> [Event; 4] {
        let [first, turn] = [(0, Outcome::Applied), (1, turn)]
            .map(|(step, outcome)| [Event::StepStarted { step }, Event::StepFinished { step, outcome }]);
        let [[a, b], [c, d]] = [first, turn];
        [a, b, c, d]
    }

    fn failed() -> Event {
        Event::Failed { reason: "no".to_owned(), checks: Vec::new(), no_room: false }
    }

    fn escalated() -> Event {
        Event::Escalated { reason: "no".to_owned(), grounds: None }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Incident {
        let mut state = WorkloadState::default();
        for (sequence, event) in (1..).zip([detected()].into_iter().chain(events)) {
            let (workload, incident) = (WorkloadId::from("app"), Some("i1".into()));
            state.apply(&Record { workload, sequence, incident, at: Timestamp::default(), event }).unwrap();
        }
        state.incident.unwrap()
    }

    fn denied() -> Outcome {
        Outcome::Denied("no".to_owned())
    }

    /// v3 was to go to v2, and then to v1; neither came.
    fn after_a_hop() -> Vec<Event> {
        let first = planned(1, Purpose::First, "v2", restore(Some("3"), "2", "v2"));
        let hop = planned(3, Purpose::OlderKnownGood, "v1", restore(Some("2"), "1", "v1"));
        let attempt = |plan| [plan].into_iter().chain(carried_out(denied())).chain([failed()]);
        attempt(first).chain(attempt(hop)).collect()
    }

    #[test]
    fn what_two_attempts_wrote_is_put_forward_over_both() {
        let incident = after(after_a_hop());
        let told: Vec<String> = forward(&incident.moved).iter().map(|step| step.kind.title()).collect();
        let with = |release: &str| format!("give ConfigMap m in prod the content that it had with {release}");
        assert_eq!(told, [with("v2"), with("v3")]);
        let contents = |step: &Step| match &step.kind {
            StepKind::RestoreSetting { expect: Some(expect), content, .. } => {
                format!("{} {}", expect.as_str(), content.as_str())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(forward(&incident.moved).iter().map(contents).collect::<Vec<_>>(), ["1 2", "2 3"]);
        let is_apart_at = ["v1", "v2", "v3"].map(|release| are_apart(&incident.moved, &release.into()));
        assert_eq!(
            is_apart_at,
            [false, true, true],
            "the release of the first attempt has the settings of the last one"
        );
    }

    #[test]
    fn what_went_back_is_known_until_its_release_is_in_place_whoever_asks_for_what_meanwhile() {
        let again = || after_a_hop().into_iter().chain([escalated(), detected()]);
        let difference = difference(&after(again())).unwrap();
        assert!(difference.contains("m in prod may say what it said with v1"), "{difference}");
        let by_hand = || planned(1, Purpose::First, "v2", restore(Some("3"), "2", "v2"));
        let refused = [by_hand(), Event::StepStarted { step: 0 }, Event::StepFinished { step: 0, outcome: denied() }];
        assert_eq!(after(again().chain(refused)).moved.len(), 2, "what was written before is not undone");
        let turned = after(again().chain([by_hand()]).chain(carried_out(Outcome::Applied)));
        assert!(turned.moved.is_empty() && turned.made.is_empty());
    }

    #[test]
    fn what_was_made_anew_stays_and_is_told_of() {
        let plan = || planned(1, Purpose::First, "v2", restore(None, "2", "v2"));
        let expected = "ConfigMap m in prod may be there again, as it was with v2, and is not taken away";
        let begun = after([plan(), Event::StepStarted { step: 0 }]);
        assert_eq!(difference(&begun).as_deref(), Some(expected));
        let over = after([plan()].into_iter().chain(carried_out(denied())).chain([failed(), escalated()]));
        assert_eq!(difference(&over).as_deref(), Some(expected));
        assert!(forward(&over.moved).is_empty(), "nothing is deleted");
        let refused = [plan(), Event::StepStarted { step: 0 }, Event::StepFinished { step: 0, outcome: denied() }];
        assert_eq!(difference(&after(refused)), None);
        assert_eq!(difference(&after([plan()].into_iter().chain(carried_out(Outcome::Applied)))), None);
    }
}
