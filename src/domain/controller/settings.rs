//! Keeping what a release names while it serves, so that it can go back with it.
//!
//! Who deploys often writes a ConfigMap a moment before the template that needs it, or a moment after. What is found then
//! belongs to the release that comes, not to the one that goes: so of a release that is known good only such settings are
//! kept with which it was well for as long as it took to be known good.
//!
//! What an instance reads when it starts, it has until it ends. So what was changed since is noted, and takes the place of
//! what is kept only once an instance that began with it serves: that the others are well says nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, Job, Output, Work};
use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::incident::record::Event;
use crate::domain::response::plan::{Plan, StepKind};
use crate::domain::settings::{ContentId, KeptSetting, Setting, ToKeep};
use crate::domain::time::{Span, Timestamp};

/// How long settings of a release that is not known good yet must be as they are.
const SETTLES: Span = Span::from_secs(5);

/// Time before something that could not be kept is tried again.
const RETRY: Span = Span::from_secs(60);

type Contents = BTreeMap<Setting, Option<ContentId>>;

/// The settings of the release in place, as they are.
#[derive(Debug, Default)]
pub(super) struct SettingsSeen {
    seen: Option<Look>,
    asked: Option<(u64, RevisionId, Vec<KeptSetting>)>,
    not_before: Timestamp,
}

/// What the settings of a release say, and who began with it.
#[derive(Debug)]
struct Look {
    release: RevisionId,
    contents: Contents,
    since: Timestamp,
    /// The instances that may have begun with what was there before.
    before: BTreeSet<InstanceId>,
    /// Since when one serves that began with this.
    begun: Option<Timestamp>,
}

impl Controller {
    /// Those that the release in place names, and the one that a plan goes back to, as far as they are looked at; and those that
    /// the plan puts back though they can't be seen.
    #[must_use]
    pub fn settings_named(&self, plan: Option<&Plan>) -> Vec<Setting> {
        let Some(orchestrated) = self.view().ok().and_then(|view| view.orchestrated.as_deref()) else {
            return Vec::new();
        };
        let releases = [Some(&orchestrated.desired), plan.map(|plan| &plan.to)];
        let settings = releases.into_iter().flatten().flat_map(|release| orchestrated.settings.of(release).into_keys());
        let put_back = plan.into_iter().flat_map(|plan| &plan.steps).filter_map(|step| {
            if let StepKind::RestoreSetting { setting, .. } = &step.kind { Some(setting.clone()) } else { None }
        });
        settings.chain(put_back).collect::<BTreeSet<Setting>>().into_iter().collect()
    }

    /// Remembers since when the settings of the release in place are as they are.
    pub(super) fn see_settings(&mut self, at: Timestamp) {
        let view = self.releases.as_ref().and_then(|(_, view)| view.as_ref().ok());
        let Some((view, orchestrated)) = view.and_then(|view| Some((view, view.orchestrated.as_deref()?))) else {
            self.settings.seen = None;
            return;
        };
        let (release, contents) = (orchestrated.desired.clone(), orchestrated.settings.of(&orchestrated.desired));
        let serving = view.in_service_at(&release);
        let known = self.settings.seen.take().filter(|look| look.release == release && look.contents == contents);
        let mut look = known.unwrap_or_else(|| {
            let is_good = self.state.ledger.get(&release).is_some_and(|standing| standing.known_good_since.is_some());
            // What is not up yet when a release comes begins with what comes along with it.
            let before = if is_good { view.at(&release).cloned().collect() } else { serving.iter().cloned().collect() };
            Look { release, contents, since: at, before, begun: None }
        });
        // Another one may come under the same name.
        look.before.retain(|instance| view.at(&look.release).any(|there| there == instance));
        let has_begun = serving.iter().any(|instance| !look.before.contains(instance));
        look.begun = has_begun.then(|| look.begun.unwrap_or(at));
        self.settings.seen = Some(look);
    }

    /// Has the settings of the release in place kept, once they are to be.
    pub(super) fn ask_to_keep(&mut self, now: Timestamp, out: &mut Output) {
        if self.settings.asked.is_some() || now < self.settings.not_before {
            return;
        }
        let Some((keep, settings)) = self.to_keep(now) else { return };
        self.tickets += 1;
        self.settings.asked = Some((self.tickets, keep.release.clone(), settings));
        let work = Work::Keep(Box::new(keep));
        out.jobs.push(Job { workload: self.policy.id.clone(), ticket: self.tickets, work });
    }

    /// Notes what was kept, where the release still serves and nothing has come up meanwhile. Of each setting that could not
    /// be kept, why.
    pub(super) fn take_kept(
        &mut self,
        ticket: u64,
        kept: Result<BTreeMap<Setting, String>, String>,
        now: Timestamp,
        out: &mut Output,
    ) {
        let asked = self.settings.asked.take_if(|(asked, ..)| *asked == ticket);
        let Some((_, revision, mut settings)) = asked else { return };
        let is_current = self.state.current.as_ref().is_some_and(|current| current.revision == revision);
        let unkept = match kept {
            Ok(unkept) if is_current && self.state.incident.is_none() => unkept,
            Ok(_) | Err(_) => {
                self.settings.not_before = now + RETRY;
                return;
            }
        };
        if !unkept.is_empty() {
            self.settings.not_before = now + RETRY;
        }
        for kept in &mut settings {
            kept.unkept = unkept.get(&kept.setting).cloned();
        }
        let before = self.state.ledger.get(&revision).and_then(|standing| standing.settings.as_ref());
        if before != Some(&settings) {
            self.note(Event::SettingsKept { revision, settings }, now, out);
        }
    }

    /// When a setting was written last, where all that serves of a release had begun by then. Both times are the
    /// orchestrator's, in whole seconds: what began within the same one began with it.
    fn changed_unseen(&self, release: &RevisionId, setting: &Setting) -> Option<Timestamp> {
        let view = self.view().ok()?;
        let orchestrated = view.orchestrated.as_deref()?;
        let written = orchestrated.settings.there.get(setting)?.written?;
        let created =
            view.in_service_at(release).into_iter().map(|instance| orchestrated.created.get(&instance).copied());
        let newest = created.collect::<Option<Vec<Timestamp>>>()?.into_iter().max()?;
        (newest < written).then_some(written)
    }

    fn to_keep(&self, now: Timestamp) -> Option<(ToKeep, Vec<KeptSetting>)> {
        if self.state.incident.is_some() {
            return None;
        }
        let Look { release, contents, since, begun, .. } = self.settings.seen.as_ref()?;
        let standing = self.state.ledger.get(release)?;
        let is_current = self.state.current.as_ref().is_some_and(|current| current.revision == *release);
        if !is_current || contents.is_empty() {
            return None;
        }
        let is_good = standing.known_good_since.is_some();
        let long_enough = |since: Timestamp| now.since(since) >= self.policy.known_good_after;
        let has_begun = begun.is_some_and(|begun| !is_good || long_enough(begun));
        let kept = standing.settings.as_deref().unwrap_or_default();
        let settings = contents.iter().map(|(setting, content)| {
            let kept = kept.iter().find(|kept| kept.setting == *setting);
            let unseen = if kept.is_none() && !has_begun { self.changed_unseen(release, setting) } else { None };
            settled(setting, content.as_ref(), kept, has_begun, unseen)
        });
        let settings: Vec<KeptSetting> = settings.collect();
        let is_due = match &standing.settings {
            None => true,
            Some(kept) if *kept == settings => false,
            Some(_) if is_good => long_enough(*since) && self.healthy_since.is_some_and(long_enough),
            Some(_) => now.since(*since) >= SETTLES,
        };
        let contents: Contents = settings.iter().map(|kept| (kept.setting.clone(), kept.content.clone())).collect();
        let needed = self.state.ledger.contents().chain(contents.values().flatten()).cloned();
        let object = self.view().ok()?.orchestrated.as_ref()?.object.clone();
        let keep = ToKeep { object, release: release.clone(), needed: needed.collect(), settings: contents };
        is_due.then_some((keep, settings))
    }
}

/// What is to be kept of one that says `now`, after what was kept of it; `unseen` is when it was changed after those had begun
/// that were there before anybody looked.
fn settled(
    setting: &Setting,
    now: Option<&ContentId>,
    kept: Option<&KeptSetting>,
    has_begun: bool,
    unseen: Option<Timestamp>,
) -> KeptSetting {
    let (content, changed) = match (kept, now) {
        (None, now) if unseen.is_some() => (None, now.cloned()),
        (None, now) => (now.cloned(), None),
        // What is gone since says nothing of how the release was: with it gone, no new pod would come up.
        (Some(kept), None) => (kept.content.clone(), kept.changed.clone()),
        (Some(kept), Some(now)) => {
            // Of what was kept with another key nobody can say whether it changed.
            let is_other = kept.content.as_ref().is_none_or(|kept| kept != now && kept.is_comparable(now));
            if is_other && !has_begun { (kept.content.clone(), Some(now.clone())) } else { (Some(now.clone()), None) }
        }
    };
    let before = kept.and_then(|kept| kept.changed_unseen);
    let changed_unseen = unseen.or(before).filter(|_| content.is_none());
    KeptSetting { setting: setting.clone(), content, changed, unkept: None, changed_unseen }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::incident::record::Record;
    use crate::domain::incident::state::WorkloadState;
    use crate::domain::observation::ReleaseView;
    use crate::domain::policy::{Habitat, Keep, Kubernetes, KubernetesSubject, ObjectKind, Strategy};
    use crate::domain::settings::{Present, SettingKind};
    use crate::domain::testing;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + Span::from_secs(seconds)
    }

    fn map() -> Setting {
        Setting { kind: SettingKind::ConfigMap, name: "m".to_owned() }
    }

    fn kept(content: &str, changed: Option<&str>) -> KeptSetting {
        KeptSetting {
            setting: map(),
            content: Some(ContentId::new(content)),
            changed: changed.map(ContentId::new),
            unkept: None,
            changed_unseen: None,
        }
    }

    /// A controller of v1, which is known good or not, with the ConfigMap kept as it was then.
    fn controller(is_good: bool) -> Controller {
        began_with(is_good, Some(kept("1", None)))
    }

    fn began_with(is_good: bool, settings: Option<KeptSetting>) -> Controller {
        let subject = KubernetesSubject::Object { kind: ObjectKind::Deployment, name: "app".to_owned() };
        let argocd_namespace = "argocd".to_owned();
        let place = Kubernetes { context: None, namespace: None, subject, argocd_namespace, keep: Keep::default() };
        let policy = testing::policy(Strategy::Rolling, Habitat::Kubernetes(place));
        let revision = || RevisionId::new("v1");
        let mut events = vec![Event::ReleaseObserved {
            revision: revision(),
            image: None,
            previous: None,
            by_rollback: false,
            older_faults: Vec::new(),
            instances: [].into(),
        }];
        events.extend(is_good.then(|| Event::KnownGood { revision: revision(), since: at(0) }));
        events.extend(settings.map(|kept| Event::SettingsKept { revision: revision(), settings: vec![kept] }));
        let mut state = WorkloadState::default();
        for (sequence, event) in (1..).zip(events) {
            let record = Record { workload: "app".into(), sequence, incident: None, at: at(0), event };
            state.apply(&record).unwrap();
        }
        let mut controller = Controller::new(Arc::new(policy), state);
        controller.healthy_since = Some(at(0));
        controller
    }

    /// What is kept once these pods, all in service, were seen with the ConfigMap saying this.
    fn then(controller: &mut Controller, seconds: u64, content: &str, pods: &[&str]) -> Option<KeptSetting> {
        written(controller, seconds, (content, 0), pods)
    }

    /// The same, where it was written then; the pods were made at second 0.
    fn written(
        controller: &mut Controller,
        seconds: u64,
        (content, written): (&str, u64),
        pods: &[&str],
    ) -> Option<KeptSetting> {
        let mut orchestrated = testing::orchestrated("v1", 1);
        orchestrated.serving = pods.iter().map(|pod| InstanceId::new(*pod)).collect();
        orchestrated.settings.watched.insert(SettingKind::ConfigMap);
        orchestrated.settings.named.insert("v1".into(), [map()].into());
        orchestrated.created = pods.iter().map(|pod| (InstanceId::new(*pod), at(0))).collect();
        let there = Present { content: ContentId::new(content), is_immutable: false, written: Some(at(written)) };
        orchestrated.settings.there.insert(map(), there);
        let view = ReleaseView {
            instances: pods.iter().map(|pod| (InstanceId::new(*pod), "v1".into())).collect(),
            orchestrated: Some(Box::new(orchestrated)),
            ..ReleaseView::default()
        };
        controller.releases = Some((at(seconds), Ok(view)));
        controller.see_settings(at(seconds));
        let (keep, mut settings) = controller.to_keep(at(seconds))?;
        assert_eq!(keep.settings.get(&map()), Some(&settings[0].content));
        settings.pop()
    }

    #[test]
    fn what_no_pod_began_with_is_noted_and_the_older_content_goes_back() {
        let mut good = controller(true);
        assert_eq!(then(&mut good, 10, "1", &["a"]), None);
        assert_eq!(then(&mut good, 20, "2", &["a"]), None);
        assert_eq!(then(&mut good, 39, "2", &["a"]), None, "not for long enough");
        assert_eq!(then(&mut good, 40, "2", &["a"]), Some(kept("1", Some("2"))));
        assert_eq!(then(&mut good, 50, "2", &["a", "b"]), Some(kept("1", Some("2"))), "it has only just come up");
        assert_eq!(then(&mut good, 70, "2", &["a", "b"]), Some(kept("2", None)));
    }

    /// A workload is adopted: nothing is kept of it yet.
    #[test]
    fn what_was_changed_before_anybody_looked_is_not_what_its_pods_began_with() {
        let adopted = || began_with(true, None);
        let unknown = KeptSetting { content: None, changed_unseen: Some(at(5)), ..kept("", Some("2")) };
        let mut changed = adopted();
        assert_eq!(written(&mut changed, 10, ("2", 5), &["a"]), Some(unknown.clone()));
        changed.state.ledger.settings_kept(&"v1".into(), vec![unknown]);
        assert_eq!(written(&mut changed, 40, ("2", 5), &["a"]), None);
        written(&mut changed, 50, ("2", 5), &["a", "b"]);
        assert_eq!(written(&mut changed, 70, ("2", 5), &["a", "b"]), Some(kept("2", None)), "one began with it");
        assert_eq!(written(&mut adopted(), 10, ("2", 0), &["a"]), Some(kept("2", None)));
        assert_eq!(written(&mut adopted(), 10, ("2", 5), &[]), Some(kept("2", None)), "none serves that began before");
    }

    #[test]
    fn a_pod_that_comes_under_the_same_name_began_anew() {
        let mut good = controller(true);
        then(&mut good, 10, "1", &["db-0"]);
        then(&mut good, 20, "2", &["db-0"]);
        then(&mut good, 30, "2", &[]);
        assert_eq!(then(&mut good, 50, "2", &["db-0"]), Some(kept("1", Some("2"))));
        assert_eq!(then(&mut good, 70, "2", &["db-0"]), Some(kept("2", None)));
    }

    #[test]
    fn what_comes_along_with_a_new_release_is_its_own_once_a_pod_serves() {
        let mut new = controller(false);
        then(&mut new, 10, "1", &[]);
        then(&mut new, 11, "2", &[]);
        assert_eq!(then(&mut new, 17, "2", &[]), Some(kept("1", Some("2"))), "what is there is known");
        assert_eq!(then(&mut new, 18, "2", &["a"]), Some(kept("2", None)));
        let mut up = controller(false);
        then(&mut up, 10, "1", &["a"]);
        then(&mut up, 11, "2", &["a"]);
        assert_eq!(then(&mut up, 17, "2", &["a"]), Some(kept("1", Some("2"))), "it began with the other");
    }
}
