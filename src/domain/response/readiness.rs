//! Whether a workload could be rolled back right now, and what is missing: found while all is well, not when it burns.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::hold::Hold;
use super::plan::{Aspect, Finding, Plan, Step, StepKind};
use crate::domain::incident::ledger::Ledger;
use crate::domain::observation::Orchestrated;
use crate::domain::policy::Restart;
use crate::domain::settings::{KeptSetting, Setting};
use crate::domain::time::Timestamp;

/// What must be so for a rollback.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// There is a release to go back to that was seen healthy.
    KnownGood,
    /// What it was made of is kept.
    Kept,
    /// The ConfigMaps and Secrets that it names are there as they were, or kept.
    Settings,
    /// The daemon has every right that it needs.
    Rights,
    /// The steps would be accepted as they are.
    Rehearsal,
    /// There is room for what a rollback starts.
    Quota,
    /// Nobody else undoes it, or whoever would is paused first.
    Owner,
}

/// All of them.
pub const NEEDS: [Need; 7] =
    [Need::KnownGood, Need::Kept, Need::Settings, Need::Rights, Need::Rehearsal, Need::Quota, Need::Owner];

impl Need {
    /// Its label value in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Need::KnownGood => "known-good",
            Need::Kept => "kept",
            Need::Settings => "settings",
            Need::Rights => "rights",
            Need::Rehearsal => "rehearsal",
            Need::Quota => "quota",
            Need::Owner => "owner",
        }
    }

    const fn of(aspect: Aspect) -> Self {
        match aspect {
            Aspect::Place => Need::Rehearsal,
            Aspect::Kept => Need::Kept,
            Aspect::Settings => Need::Settings,
            Aspect::Rights | Aspect::Cleanup => Need::Rights,
            Aspect::Quota => Need::Quota,
            Aspect::Owner => Need::Owner,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether it is so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "why")]
pub enum Met {
    /// It is.
    Yes,
    /// It is not, and why.
    No(String),
    /// It can't be told yet, and why.
    Unknown(String),
}

/// One need, and whether it is met.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Readiness {
    /// What must be so.
    pub need: Need,
    /// Whether it is.
    #[serde(flatten)]
    pub met: Met,
    /// What is to be known of it though nothing is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Every need, before anybody looked at the place. `orchestrated` is what is known of a workload that an orchestrator runs.
#[must_use]
pub fn readiness(
    plan: Option<&Plan>,
    guards: &[Guard],
    ledger: &Ledger,
    orchestrated: Option<&Orchestrated>,
) -> Vec<Readiness> {
    let with_plan = || match plan {
        Some(_) => Met::Yes,
        None => match release_unknown(guards) {
            Some(unknown) => Met::Unknown(unknown.to_string()),
            None => Met::Unknown("there is no release to go back to".to_owned()),
        },
    };
    let met = |need: Need| match need {
        Need::KnownGood if plan.is_some() => Met::Yes,
        Need::KnownGood => no_goal(guards),
        Need::Kept => nothing_kept(orchestrated).unwrap_or_else(with_plan),
        Need::Settings => match (plan, orchestrated) {
            (Some(plan), Some(orchestrated)) => settings(ledger, orchestrated, plan),
            (Some(_), None) => Met::Yes,
            (None, Some(orchestrated)) => settings_of_next_goal(ledger, orchestrated).unwrap_or_else(with_plan),
            (None, None) => with_plan(),
        },
        // Those that the policy needs are asked for, whatever the plan.
        Need::Rights => plan.and_then(left_to_polkit).unwrap_or(Met::Yes),
        Need::Rehearsal | Need::Quota => with_plan(),
        Need::Owner => owned(guards).unwrap_or(Met::Yes),
    };
    let note = |need: Need| match (need, plan, orchestrated) {
        (Need::Settings, Some(plan), Some(orchestrated)) => changed_since(ledger, orchestrated, plan),
        _ => None,
    };
    NEEDS.iter().map(|need| Readiness { need: *need, met: met(*need), note: note(*need) }).collect()
}

/// Without a goal, the look at the place was for the release in place, put back as it is.
pub fn tried_in_place(readiness: &mut [Readiness]) {
    for one in readiness {
        if let (Need::Rehearsal | Need::Quota, Met::Unknown(why)) = (one.need, &one.met) {
            one.note = Some(format!("{why}: looked at with the one in place"));
            one.met = Met::Yes;
        }
    }
}

/// Adds what a look at the place found.
pub fn refine(readiness: &mut [Readiness], findings: &[Finding]) {
    let told = |about: &dyn Fn(&Finding) -> bool| {
        let about = findings.iter().filter(|finding| about(finding));
        let problems: Vec<&str> = about.map(|finding| finding.problem.as_str()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    };
    let problems = |need: Need| told(&|finding| finding.aspect != Aspect::Cleanup && Need::of(finding.aspect) == need);
    let untidied = told(&|finding| finding.aspect == Aspect::Cleanup);
    let lacks_rights = problems(Need::Rights).is_some();
    for one in readiness {
        if one.need == Need::Rights {
            one.note = untidied.clone();
        }
        match problems(one.need) {
            Some(problems) => one.met = Met::No(problems),
            // Nobody tries what is not allowed.
            None if one.need == Need::Rehearsal && lacks_rights => {
                one.met = Met::Unknown("rights are missing".to_owned());
            }
            None => {}
        }
    }
}

/// What is known to be missing, and why, beside a goal: which there is, is known without a look at the place.
pub fn lacks(all: &[Readiness]) -> impl Iterator<Item = (Need, &str)> {
    all.iter().filter_map(|one| match &one.met {
        Met::No(why) if one.need != Need::KnownGood => Some((one.need, why.as_str())),
        Met::Yes | Met::No(_) | Met::Unknown(_) => None,
    })
}

/// What is to be known beforehand though nothing is missing for a rollback: what would be left after it.
pub fn left_over(all: &[Readiness]) -> impl Iterator<Item = &str> {
    all.iter().filter(|one| one.need == Need::Rights).filter_map(|one| one.note.as_deref())
}

/// An owner that would undo a rollback stands in the way of each.
fn owned(guards: &[Guard]) -> Option<Met> {
    let mut holds = guards.iter().filter_map(|guard| guard.hold.as_ref());
    let hold = holds.find(|hold| matches!(hold, Hold::GitopsOwner { .. } | Hold::RolloutsOwner { .. }))?;
    Some(Met::No(hold.to_string()))
}

/// The units that a plan restarts: nobody but root is told beforehand whether they may be.
fn left_to_polkit(plan: &Plan) -> Option<Met> {
    let unit = |step: &Step| match &step.kind {
        StepKind::Restart { how: Restart::Unit(unit), .. } => Some(unit.clone()),
        _ => None,
    };
    let units: BTreeSet<String> = plan.steps.iter().filter_map(unit).collect();
    let units: Vec<String> = units.into_iter().collect();
    let units = (!units.is_empty()).then(|| units.join(", "))?;
    Some(Met::Unknown(format!(
        "root may restart {units}, another user where polkit says so, which shows when it is done"
    )))
}

fn release_unknown(guards: &[Guard]) -> Option<&Hold> {
    let mut holds = guards.iter().filter_map(|guard| guard.hold.as_ref());
    holds.find(|hold| matches!(hold, Hold::RevisionUnknown { .. }))
}

fn no_goal(guards: &[Guard]) -> Met {
    let mut holds = guards.iter().filter_map(|guard| guard.hold.as_ref());
    let about_goal = |hold: &&Hold| {
        matches!(hold, Hold::NoKnownGood { .. } | Hold::GoalRefused { .. } | Hold::RevisionUnknown { .. })
    };
    // What is in service is found out first.
    match (release_unknown(guards), holds.find(about_goal)) {
        (Some(unknown), _) => Met::Unknown(unknown.to_string()),
        (None, Some(hold)) => Met::No(hold.to_string()),
        (None, None) => Met::No("there is no release to go back to".to_owned()),
    }
}

/// Whether each setting that the goal names says what it said when the goal served, or can be put back.
fn settings(ledger: &Ledger, orchestrated: &Orchestrated, plan: &Plan) -> Met {
    let seen = &orchestrated.settings;
    let named: Vec<&Setting> = seen.named.get(&plan.to).into_iter().flatten().collect();
    let standing = ledger.get(&plan.to).and_then(|standing| standing.settings.as_ref());
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    for setting in named {
        let there = seen.there.get(setting);
        let kept = standing.and_then(|kept| kept.iter().find(|kept| kept.setting == *setting));
        match (kept, there) {
            _ if !seen.watched.contains(&setting.kind) => {
                unknown.push(format!(
                    "{setting} is not looked at: the policy's `keep` leaves it out, or it can't be seen; whether it says what \
                     it said with {} is not known",
                    plan.to
                ));
            }
            (None, None) => wrong.push(format!("{setting} is not there, and nothing is kept of it")),
            (None, Some(_)) => unknown.push(format!("what {setting} said with {} is not kept", plan.to)),
            (Some(KeptSetting { changed_unseen: Some(at), .. }), _) => unknown.push(unseen(setting, *at)),
            (Some(kept), _) if kept.content.as_ref() == there.map(|there| &there.content) => {}
            (Some(KeptSetting { content: Some(content), .. }), Some(there))
                if !there.content.is_comparable(content) =>
            {
                unknown.push(format!("{setting} was kept with another key"));
            }
            (Some(KeptSetting { unkept: Some(why), .. }), _) => {
                wrong.push(format!("{setting} is not as it was with {}, and was not kept: {why}", plan.to));
            }
            // The plan has a step for it, which is looked over at the place.
            (Some(_), _) => {}
        }
    }
    match (wrong.is_empty(), unknown.is_empty()) {
        (false, _) => Met::No(wrong.join("; ")),
        (true, false) => Met::Unknown(unknown.join("; ")),
        (true, true) => Met::Yes,
    }
}

/// The same of the release in place, which is the next goal, before anything leads back to it: what will not be known of it, or
/// could not be put back. Nothing where nothing is missing.
fn settings_of_next_goal(ledger: &Ledger, orchestrated: &Orchestrated) -> Option<Met> {
    let release = &orchestrated.desired;
    let kept = ledger.get(release)?.settings.iter().flatten();
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    for kept in kept {
        if let Some(at) = kept.changed_unseen {
            unknown.push(unseen(&kept.setting, at));
        } else if let Some(why) = &kept.unkept {
            wrong.push(format!("{} was not kept: {why}", kept.setting));
        }
    }
    match (wrong.is_empty(), unknown.is_empty()) {
        (false, _) => Some(Met::No(wrong.join("; "))),
        (true, false) => Some(Met::Unknown(unknown.join("; "))),
        (true, true) => None,
    }
}

fn unseen(setting: &Setting, at: Timestamp) -> String {
    format!("{setting} changed at {at} after its pods began: what they began with is not known")
}

/// Which settings of the goal were changed while it served, with no instance seen to start after that: they go back to what
/// its instances began with.
fn changed_since(ledger: &Ledger, orchestrated: &Orchestrated, plan: &Plan) -> Option<String> {
    let seen = &orchestrated.settings;
    let named = seen.named.get(&plan.to)?;
    let kept = ledger.get(&plan.to)?.settings.iter().flatten();
    let goes_back = |kept: &&KeptSetting| {
        let there = seen.there.get(&kept.setting).map(|there| &there.content);
        kept.changed.is_some()
            && kept.changed_unseen.is_none()
            && kept.unkept.is_none()
            && named.contains(&kept.setting)
            && there != kept.content.as_ref()
    };
    let told = kept.filter(goes_back).map(|kept| {
        let (setting, to) = (&kept.setting, &plan.to);
        match kept.content {
            Some(_) => format!(
                "{setting} was changed after the pods of {to} were last seen to start: it goes back to what it said before \
                 that change"
            ),
            None => format!("{setting} came after the pods of {to} were last seen to start: it stays as it is"),
        }
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A workload that keeps no history can never be rolled back, which is known as soon as it is seen.
fn nothing_kept(orchestrated: Option<&Orchestrated>) -> Option<Met> {
    let keeps_none = orchestrated?.history_limit == Some(0);
    keeps_none.then(|| Met::No("its revisionHistoryLimit is 0: no release before the present one is kept".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Strategy;
    use crate::domain::response::plan::Purpose;
    use crate::domain::settings::{ContentId, Present, SettingKind};
    use crate::domain::testing;
    use crate::domain::time::Span;

    fn plan() -> Plan {
        Plan {
            attempt: 1,
            purpose: Purpose::First,
            strategy: Strategy::Rolling,
            from: "v2".into(),
            to: "v1".into(),
            steps: Vec::new(),
            deadline: Timestamp::default(),
        }
    }

    fn guard(hold: Hold) -> Guard {
        Guard { name: hold.as_str().to_owned(), hold: Some(hold), forced: false }
    }

    fn finding(aspect: Aspect, problem: &str) -> Finding {
        Finding { aspect, check: String::new(), problem: problem.to_owned(), passing: false }
    }

    fn told(all: &[Readiness]) -> Vec<String> {
        let line = |one: &Readiness| match &one.met {
            Met::Yes => format!("{} yes", one.need),
            Met::No(why) => format!("{} no: {why}", one.need),
            Met::Unknown(why) => format!("{} unknown: {why}", one.need),
        };
        all.iter().map(line).collect()
    }

    #[test]
    fn what_is_found_is_told_of_the_need_that_it_is_about() {
        let mut all = readiness(Some(&plan()), &[], &Ledger::default(), None);
        assert!(all.iter().all(|one| one.met == Met::Yes), "{all:?}");
        let findings = [
            finding(Aspect::Rights, "may not patch"),
            finding(Aspect::Rights, "may not get"),
            finding(Aspect::Quota, "no room"),
        ];
        refine(&mut all, &findings);
        let expected = [
            "known-good yes",
            "kept yes",
            "settings yes",
            "rights no: may not patch; may not get",
            "rehearsal unknown: rights are missing",
            "quota no: no room",
            "owner yes",
        ];
        assert_eq!(told(&all), expected);
        let missing: Vec<Need> = lacks(&all).map(|(need, _)| need).collect();
        assert_eq!(missing, [Need::Rights, Need::Quota], "what can't be told is not known to be missing");
    }

    /// By then the good release is back.
    #[test]
    fn what_only_tidying_up_needs_is_told_and_makes_nothing_unready() {
        let mut all = readiness(Some(&plan()), &[], &Ledger::default(), None);
        refine(&mut all, &[finding(Aspect::Cleanup, "the canary stays: may not delete it")]);
        assert!(all.iter().all(|one| one.met == Met::Yes) && lacks(&all).next().is_none(), "{all:?}");
        assert_eq!(left_over(&all).collect::<Vec<_>>(), ["the canary stays: may not delete it"]);
        let both = [finding(Aspect::Cleanup, "it stays"), finding(Aspect::Rights, "may not patch")];
        refine(&mut all, &both);
        assert_eq!(lacks(&all).collect::<Vec<_>>(), [(Need::Rights, "may not patch")]);
        refine(&mut all, &[]);
        assert!(left_over(&all).next().is_none());
    }

    /// The record says the same of both, which is no news of how it is now.
    #[test]
    fn a_setting_of_both_releases_that_can_not_be_seen_is_not_known_to_be_the_same() {
        let map = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
        let mut orchestrated = testing::orchestrated("v2", 1);
        let mut ledger = Ledger::default();
        for release in ["v1", "v2"] {
            orchestrated.settings.named.insert(release.into(), [map.clone()].into());
            ledger.became_current(&release.into(), None, Timestamp::default());
            let (setting, content) = (map.clone(), Some(ContentId::new("1")));
            let kept = KeptSetting { setting, content, changed: None, unkept: None, changed_unseen: None };
            ledger.settings_kept(&release.into(), vec![kept]);
        }
        let Met::Unknown(why) = readiness(Some(&plan()), &[], &ledger, Some(&orchestrated)).swap_remove(2).met else {
            panic!("it is known")
        };
        assert!(why.ends_with("whether it says what it said with v1 is not known"), "{why}");
    }

    /// A daemon that is not root can't ask beforehand: polkit tells whoever asks on another's behalf only what no unit is named in.
    #[test]
    fn whether_polkit_lets_a_unit_be_restarted_is_not_known_beforehand() {
        let restart = |how: Restart| Step {
            kind: StepKind::Restart { instance: "a".into(), how, pointed: None },
            timeout: Span::from_secs(60),
        };
        let rights = |how: &[Restart]| {
            let plan = Plan { steps: how.iter().cloned().map(restart).collect(), ..plan() };
            readiness(Some(&plan), &[], &Ledger::default(), None).swap_remove(3)
        };
        let unit = |name: &str| Restart::Unit(name.to_owned());
        let command = Restart::Command(vec!["true".to_owned()]);
        assert_eq!(rights(std::slice::from_ref(&command)).met, Met::Yes);
        let left = rights(&[unit("b.service"), command, unit("a.service"), unit("b.service")]);
        assert_eq!(
            told(&[left]),
            [
                "rights unknown: root may restart a.service, b.service, another user where polkit says so, which shows when \
              it is done"
            ]
        );
    }

    #[test]
    fn a_setting_that_no_pod_began_with_is_told_of() {
        let map = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
        let kept = |changed: Option<&str>| KeptSetting {
            setting: map.clone(),
            content: Some(ContentId::new("1")),
            changed: changed.map(ContentId::new),
            unkept: None,
            changed_unseen: None,
        };
        let mut orchestrated = testing::orchestrated("v2", 1);
        orchestrated.settings.watched.insert(SettingKind::ConfigMap);
        orchestrated.settings.named.insert("v1".into(), [map.clone()].into());
        let mut note = |changed, there: &str| {
            let mut ledger = Ledger::default();
            ledger.became_current(&"v1".into(), None, Timestamp::default());
            ledger.settings_kept(&"v1".into(), vec![kept(changed)]);
            let there = Present { content: ContentId::new(there), is_immutable: false, written: None };
            orchestrated.settings.there.insert(map.clone(), there);
            let all = readiness(Some(&plan()), &[], &ledger, Some(&orchestrated));
            let settings = all.into_iter().find(|one| one.need == Need::Settings).unwrap();
            assert_eq!(settings.met, Met::Yes);
            settings.note
        };
        let told = note(Some("2"), "2").unwrap();
        assert!(told.contains("ConfigMap m was changed after the pods of v1 were last seen to start"), "{told}");
        assert_eq!([note(None, "2"), note(Some("2"), "1")], [None, None]);
    }

    /// It is in place, alone, and the next goal.
    #[test]
    fn of_the_first_release_it_is_told_what_can_not_be_kept() {
        let map = Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() };
        let mut orchestrated = testing::orchestrated("v1", 1);
        orchestrated.settings.named.insert("v1".into(), [map.clone()].into());
        orchestrated.settings.watched.insert(SettingKind::ConfigMap);
        let told = |unkept: Option<&str>, changed_unseen: Option<Timestamp>| {
            let mut ledger = Ledger::default();
            ledger.became_current(&"v1".into(), None, Timestamp::default());
            let content = changed_unseen.is_none().then(|| ContentId::new("1"));
            let unkept = unkept.map(str::to_owned);
            let kept = KeptSetting { setting: map.clone(), content, changed: None, unkept, changed_unseen };
            ledger.settings_kept(&"v1".into(), vec![kept]);
            let met = |plan: Option<&Plan>| readiness(plan, &[], &ledger, Some(&orchestrated)).swap_remove(2).met;
            (met(None), met(Some(&plan())))
        };
        let none = || Met::Unknown("there is no release to go back to".to_owned());
        let unknown =
            "ConfigMap m changed at 1970-01-01T00:00:00.000Z after its pods began: what they began with is not known";
        let unknown = || Met::Unknown(unknown.to_owned());
        assert_eq!(told(None, Some(Timestamp::default())), (unknown(), unknown()));
        assert_eq!(told(Some("too large"), None).0, Met::No("ConfigMap m was not kept: too large".to_owned()));
        assert_eq!(told(None, None).0, none());
    }

    #[test]
    fn without_a_goal_the_rest_is_not_known() {
        let unseen = guard(Hold::RevisionUnknown { reason: "x".to_owned() });
        let none = guard(Hold::NoKnownGood { candidates: Vec::new() });
        let all = readiness(None, std::slice::from_ref(&none), &Ledger::default(), None);
        assert_eq!(all[0].met, Met::No("there is no other release".to_owned()));
        assert!(matches!(all[1].met, Met::Unknown(_)), "{all:?}");
        assert!(matches!(all[2].met, Met::Unknown(_)), "{all:?}");
        assert_eq!(all[3].met, Met::Yes);
        assert!(matches!(readiness(None, &[none, unseen], &Ledger::default(), None)[0].met, Met::Unknown(_)));
    }
}
