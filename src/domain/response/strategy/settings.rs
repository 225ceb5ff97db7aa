//! Putting back what a release names: before anything else is done, and only what nobody changed since the release in place
//! was judged.
//!
//! Where the goal runs already, as the other colour or beside a canary, its pods began with what was there then; but the next
//! one that starts, and every one that reads its settings while it runs, has what there is now. So they go back there too, and
//! likewise first: what is scaled up for the traffic must come up with them, and what has gone bad by them must be well again
//! before it gets any. That the bad release may name the same and still serves for a moment is no other than with a template
//! that goes back pod by pod.

use std::collections::BTreeSet;

use crate::domain::id::RevisionId;
use crate::domain::incident::ledger::Ledger;
use crate::domain::incident::state::MovedSetting;
use crate::domain::observation::Orchestrated;
use crate::domain::policy::Keep;
use crate::domain::response::plan::{Step, StepKind};
use crate::domain::settings::{ContentId, Setting, SettingKind};

use super::kubernetes::WRITE_TIMEOUT;

/// One step for each setting of `to` that is not there any more or says something else than when `to` served, and that was
/// kept. Each is compared with what it said while `from` served, or with what an attempt before put there: what a human
/// changed since is left alone. Of what can't be seen now, the record alone says whether it has changed; where
/// that says nothing of it either, it is made again unless it is there as it was.
#[must_use]
pub fn steps(
    ledger: &Ledger,
    (orchestrated, keep): (&Orchestrated, Keep),
    from: &RevisionId,
    to: &RevisionId,
    moved: &[MovedSetting],
) -> Vec<Step> {
    let seen = &orchestrated.settings;
    let kept = ledger.get(to).and_then(|standing| standing.settings.as_deref()).unwrap_or_default();
    let with_from = |setting: &Setting| {
        let settings = ledger.get(from)?.settings.as_ref()?;
        settings.iter().find(|kept| kept.setting == *setting).map(|kept| kept.last().cloned())
    };
    let ours = |setting: &Setting| {
        let here = moved.iter().filter(|moved| moved.object.namespace == orchestrated.object.namespace);
        let its: Vec<&ContentId> = here.filter(|moved| moved.setting == *setting).map(|moved| &moved.is).collect();
        its
    };
    let mut steps = Vec::new();
    let wanted: BTreeSet<SettingKind> = keep.settings().collect();
    for kept in kept.iter().filter(|kept| kept.unkept.is_none() && wanted.contains(&kept.setting.kind)) {
        let Some(content) = &kept.content else { continue };
        let ours = ours(&kept.setting);
        let there = if seen.watched.contains(&kept.setting.kind) {
            seen.there.get(&kept.setting).map(|there| there.content.clone())
        } else {
            ours.last().map(|is| (*is).clone()).or_else(|| with_from(&kept.setting).flatten())
        };
        // Kept with another key than what is there now is told by: nobody can say whether it changed.
        if there.as_ref().is_some_and(|there| there == content || !there.is_comparable(content)) {
            continue;
        }
        // What is gone is put back, whoever deleted it: nobody's change is lost by that.
        let expect = there.and_then(|now| match with_from(&kept.setting) {
            Some(expect) if !ours.contains(&&now) => expect,
            Some(_) | None => Some(now),
        });
        let kind = StepKind::RestoreSetting {
            object: orchestrated.object.clone(),
            setting: kept.setting.clone(),
            expect,
            content: content.clone(),
            release: to.clone(),
            unless_at: None,
        };
        steps.push(Step { kind, timeout: WRITE_TIMEOUT });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::settings::{KeptSetting, Present, Settings};
    use crate::domain::testing;
    use crate::domain::time::Timestamp;

    const KEEP: Keep = Keep { logs: false, configmaps: true, secrets: false };

    fn map(name: &str) -> Setting {
        Setting { kind: SettingKind::ConfigMap, name: name.to_owned() }
    }

    fn orchestrated(there: &[(&str, &str)]) -> Orchestrated {
        let there = there.iter().map(|(name, content)| {
            (map(name), Present { content: ContentId::new(*content), is_immutable: false, written: None })
        });
        Orchestrated {
            settings: Settings {
                watched: [SettingKind::ConfigMap].into(),
                there: there.collect(),
                ..Settings::default()
            },
            ..testing::orchestrated("v2", 1)
        }
    }

    fn ledger(good: &[(&str, Option<&str>, bool)], bad: &[(&str, Option<&str>)]) -> Ledger {
        let mut ledger = Ledger::default();
        let kept = |name: &str, content: Option<&str>, is_kept: bool| KeptSetting {
            setting: map(name),
            content: content.map(ContentId::new),
            changed: None,
            unkept: (!is_kept).then(|| "too large".to_owned()),
            changed_unseen: None,
        };
        for release in ["v1", "v2"] {
            ledger.became_current(&release.into(), None, Timestamp::default());
        }
        ledger.settings_kept(&"v1".into(), good.iter().map(|(name, content, is)| kept(name, *content, *is)).collect());
        ledger.settings_kept(&"v2".into(), bad.iter().map(|(name, content)| kept(name, *content, true)).collect());
        ledger
    }

    fn expected(ledger: &Ledger, there: &[(&str, &str)]) -> Vec<(String, Option<String>, String)> {
        expected_after(ledger, there, &[])
    }

    /// Of each step what it is about, what should be there before, and what is there after.
    fn expected_after(
        ledger: &Ledger,
        there: &[(&str, &str)],
        moved: &[MovedSetting],
    ) -> Vec<(String, Option<String>, String)> {
        told(&steps(ledger, (&orchestrated(there), KEEP), &"v2".into(), &"v1".into(), moved))
    }

    fn told(steps: &[Step]) -> Vec<(String, Option<String>, String)> {
        let told = |step: &Step| match &step.kind {
            StepKind::RestoreSetting { setting, expect, content, .. } => {
                let expect = expect.as_ref().map(|content| content.as_str().to_owned());
                (setting.name.clone(), expect, content.as_str().to_owned())
            }
            other => panic!("{other:?}"),
        };
        steps.iter().map(told).collect()
    }

    #[test]
    fn what_differs_goes_back_and_is_compared_with_what_the_bad_release_had() {
        let step = |name: &str, expect: Option<&str>, content: &str| {
            (name.to_owned(), expect.map(str::to_owned), content.to_owned())
        };
        let ledger = ledger(
            &[("changed", Some("1"), true), ("gone", Some("1"), true), ("same", Some("1"), true)],
            &[("changed", Some("2")), ("same", Some("1"))],
        );
        let there = [("changed", "2"), ("same", "1")];
        assert_eq!(expected(&ledger, &there), [step("changed", Some("2"), "1"), step("gone", None, "1")]);
        // A human wrote since: the step says what it should have been, and the look at the place finds that it is not so.
        let there = [("changed", "3"), ("same", "1"), ("gone", "1")];
        assert_eq!(expected(&ledger, &there), [step("changed", Some("2"), "1")]);
        let deleted = [("same", "1"), ("gone", "1")];
        assert_eq!(expected(&ledger, &deleted), [step("changed", None, "1")]);
    }

    #[test]
    fn what_no_instance_began_with_is_compared_with_and_never_gone_back_to() {
        let kept = |content: &str, changed: &str| KeptSetting {
            setting: map("m"),
            content: Some(ContentId::new(content)),
            changed: Some(ContentId::new(changed)),
            unkept: None,
            changed_unseen: None,
        };
        let mut ledger = ledger(&[], &[]);
        ledger.settings_kept(&"v1".into(), vec![kept("1", "2")]);
        ledger.settings_kept(&"v2".into(), vec![kept("2", "3")]);
        let step = [("m".to_owned(), Some("3".to_owned()), "1".to_owned())];
        assert_eq!(expected(&ledger, &[("m", "3")]), step);
    }

    #[test]
    fn what_an_attempt_before_put_there_is_nobody_elses() {
        let ledger = ledger(&[("m", Some("1"), true)], &[("m", Some("3"))]);
        let moved = |setting: &str, was: &str, is: &str| MovedSetting {
            object: orchestrated(&[]).object,
            setting: map(setting),
            was: ContentId::new(was),
            with: "v2".into(),
            is: ContentId::new(is),
            to: "v1.5".into(),
            is_by_template: true,
            attempt: 1,
        };
        let step = |expect: &str| [("m".to_owned(), Some(expect.to_owned()), "1".to_owned())];
        assert_eq!(expected_after(&ledger, &[("m", "2")], &[moved("m", "3", "2")]), step("2"));
        assert_eq!(expected_after(&ledger, &[("m", "3")], &[moved("m", "3", "2")]), step("3"), "it never came there");
        assert_eq!(expected_after(&ledger, &[("m", "4")], &[moved("m", "3", "2")]), step("3"), "somebody wrote since");
        assert_eq!(expected_after(&ledger, &[("m", "2")], &[moved("other", "3", "2")]), step("3"));
    }

    #[test]
    fn what_was_not_kept_or_not_there_is_left_alone() {
        let unkept = ledger(&[("large", Some("1"), false), ("optional", None, true)], &[]);
        assert_eq!(expected(&unkept, &[("large", "2"), ("optional", "2")]), []);
        let unseen = ledger(&[("a", Some("1"), true)], &[]);
        assert_eq!(expected(&unseen, &[("a", "2")]), [("a".to_owned(), Some("2".to_owned()), "1".to_owned())]);
        let all = orchestrated(&[("a", "2")]);
        assert!(steps(&unseen, (&all, Keep::default()), &"v2".into(), &"v1".into(), &[]).is_empty(), "not asked for");
    }

    #[test]
    fn of_what_can_not_be_seen_now_the_record_says_what_it_was() {
        let ledger = ledger(
            &[("changed", Some("1"), true), ("same", Some("1"), true), ("unknown", Some("1"), true)],
            &[("changed", Some("2")), ("same", Some("1"))],
        );
        let step = |name: &str, expect: Option<&str>| (name.to_owned(), expect.map(str::to_owned), "1".to_owned());
        let mut blind = orchestrated(&[]);
        blind.settings.watched.clear();
        let steps = steps(&ledger, (&blind, KEEP), &"v2".into(), &"v1".into(), &[]);
        assert_eq!(told(&steps), [step("changed", Some("2")), step("unknown", None)]);
    }
}
