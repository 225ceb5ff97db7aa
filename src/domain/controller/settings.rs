//! Keeping what a release names while it serves, so that it can go back with it.
//!
//! Who deploys often writes a ConfigMap a moment before the template that needs it, or a moment after. What is found then
//! belongs to the release that comes, not to the one that goes: so of a release that is known good only such settings are
//! kept with which it was well for as long as it took to be known good.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, Job, Output, Work};
use crate::domain::id::RevisionId;
use crate::domain::incident::record::Event;
use crate::domain::response::plan::Plan;
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
    seen: Option<(RevisionId, Contents, Timestamp)>,
    asked: Option<(u64, ToKeep)>,
    not_before: Timestamp,
}

impl Controller {
    /// Those that the release in place names, and the one that a plan goes back to, as far as they are looked at.
    #[must_use]
    pub fn settings_named(&self, plan: Option<&Plan>) -> Vec<Setting> {
        let Some(orchestrated) = self.view().ok().and_then(|view| view.orchestrated.as_deref()) else {
            return Vec::new();
        };
        let releases = [Some(&orchestrated.desired), plan.map(|plan| &plan.to)];
        let settings = releases.into_iter().flatten().flat_map(|release| orchestrated.settings.of(release).into_keys());
        settings.collect::<BTreeSet<Setting>>().into_iter().collect()
    }

    /// Remembers since when the settings of the release in place are as they are.
    pub(super) fn see_settings(&mut self, at: Timestamp) {
        let orchestrated = self.releases.as_ref().and_then(|(_, view)| view.as_ref().ok()?.orchestrated.as_deref());
        let Some(orchestrated) = orchestrated else {
            self.settings.seen = None;
            return;
        };
        let (release, contents) = (&orchestrated.desired, orchestrated.settings.of(&orchestrated.desired));
        let is_known = |(of, known, _): &(RevisionId, Contents, Timestamp)| of == release && *known == contents;
        if !self.settings.seen.as_ref().is_some_and(is_known) {
            self.settings.seen = Some((release.clone(), contents, at));
        }
    }

    /// Has the settings of the release in place kept, once they are to be.
    pub(super) fn ask_to_keep(&mut self, now: Timestamp, out: &mut Output) {
        if self.settings.asked.is_some() || now < self.settings.not_before {
            return;
        }
        let Some(keep) = self.to_keep(now) else { return };
        self.tickets += 1;
        self.settings.asked = Some((self.tickets, keep.clone()));
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
        let Some((_, asked)) = self.settings.asked.take_if(|(asked, _)| *asked == ticket) else { return };
        let is_current = self.state.current.as_ref().is_some_and(|current| current.revision == asked.release);
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
        let settings = asked.settings.into_iter().map(|(setting, content)| KeptSetting {
            unkept: unkept.get(&setting).cloned(),
            setting,
            content,
        });
        let settings: Vec<KeptSetting> = settings.collect();
        let before = self.state.ledger.get(&asked.release).and_then(|standing| standing.settings.as_ref());
        if before != Some(&settings) {
            self.note(Event::SettingsKept { revision: asked.release, settings }, now, out);
        }
    }

    fn to_keep(&self, now: Timestamp) -> Option<ToKeep> {
        if self.state.incident.is_some() {
            return None;
        }
        let (release, contents, since) = self.settings.seen.as_ref()?;
        let standing = self.state.ledger.get(release)?;
        let is_current = self.state.current.as_ref().is_some_and(|current| current.revision == *release);
        if !is_current || contents.is_empty() {
            return None;
        }
        // What is gone since says nothing of how the release was: with it gone, no new pod would come up.
        let mut contents = contents.clone();
        for kept in standing.settings.iter().flatten() {
            if let Some(content @ None) = contents.get_mut(&kept.setting) {
                content.clone_from(&kept.content);
            }
        }
        let contents = &contents;
        let is_kept = |kept: &Vec<KeptSetting>| {
            let same = kept.iter().map(|kept| (&kept.setting, &kept.content)).eq(contents);
            same && kept.iter().all(|kept| kept.unkept.is_none())
        };
        let long_enough = |since: Timestamp| now.since(since) >= self.policy.known_good_after;
        let is_due = match &standing.settings {
            None => true,
            Some(kept) if is_kept(kept) => false,
            Some(_) if standing.known_good_since.is_some() => {
                long_enough(*since) && self.healthy_since.is_some_and(long_enough)
            }
            Some(_) => now.since(*since) >= SETTLES,
        };
        let needed = self.state.ledger.contents().chain(contents.values().flatten()).cloned();
        let object = self.view().ok()?.orchestrated.as_ref()?.object.clone();
        let (release, settings) = (release.clone(), contents.clone());
        is_due.then(|| ToKeep { object, release, settings, needed: needed.collect() })
    }
}
