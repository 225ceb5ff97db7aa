//! One workload, followed: each change of its releases and pods is told at once, and how things are once an interval.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::collection::{Collection, Sight, Stamp};
use super::pods::{Offer, addresses};
use super::wake::{Waker, Why};
use super::{Besides, Sight as Collections};
use crate::cluster::colours::{Colour, with_colours};
use crate::cluster::facts::{Kills, Map, Pod, Revision, Workload};
use crate::cluster::own::OwnPod;
use crate::cluster::view::{Place, newest_first, releases, with_canary};
use crate::domain::id::InstanceId;
use crate::domain::observation::{Fault, FaultKind, HostReading, Observation, ReleaseView, Seen, Teller};
use crate::domain::policy::{Keep, ObjectKind};
use crate::domain::settings::{Present, Setting, SettingKind, Settings};
use crate::domain::time::{Span, Timestamp};
use crate::observe::change::Outlook;
use crate::observe::crew::List;
use crate::observe::pulse::Pulse;
use crate::observe::shared::Site;

/// How long a workload's controller may take to say which revision its template is.
const NAMING: Span = Span::from_secs(5);

/// What is followed.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::observe) struct Subject {
    pub(in crate::observe) context: Option<String>,
    pub(in crate::observe) namespace: String,
    pub(in crate::observe) kind: ObjectKind,
    pub(in crate::observe) name: String,
    pub(in crate::observe) beside: Beside,
    pub(in crate::observe) keep: Keep,
    pub(in crate::observe) offer: Offer,
    pub(in crate::observe) interval: Span,
}

/// What belongs to it besides.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::observe) enum Beside {
    Nothing,
    /// The Deployment that tries a release.
    Canary(String),
    /// The Deployment of the other colour, and the Service whose selector says by which label which of them serves.
    Colour {
        other: String,
        service: String,
        key: String,
    },
}

impl Beside {
    const fn has_service(&self) -> bool {
        match self {
            Beside::Colour { .. } => true,
            Beside::Nothing | Beside::Canary(_) => false,
        }
    }
}

/// Follows one workload.
#[derive(Debug)]
pub(in crate::observe) struct Follower {
    subject: Subject,
    /// The daemon's own pod, where it is in this namespace.
    own: Option<String>,
    site: Site,
    list: List,
    kills: BTreeMap<String, Kills>,
    told: Option<Result<ReleaseView, Fault>>,
    readings: BTreeMap<InstanceId, HostReading>,
    names: Names,
    /// Since when the workload's template has been no revision's.
    unnamed_since: Option<Timestamp>,
    outlook: Outlook,
    /// Whether something may have been done that was not looked at yet.
    is_behind: bool,
    interest: Interest,
    /// What stood for all of that at the last look.
    stamps: Vec<Stamp>,
}

/// The groups of facts that a workload is made of.
#[derive(Debug, Default)]
struct Interest {
    /// Names of workloads.
    workloads: Vec<String>,
    /// Their uids, by which their revisions are found, and pods of some kinds.
    uids: Vec<String>,
    /// Those of their revisions, by which the other pods are found.
    revisions: Vec<String>,
}

impl Interest {
    fn of(subject: &Subject, sight: &Collections) -> Self {
        let mut workloads = vec![subject.name.clone()];
        match &subject.beside {
            Beside::Nothing => {}
            Beside::Canary(other) | Beside::Colour { other, .. } => workloads.push(other.clone()),
        }
        let uids: Vec<String> = workloads.iter().flat_map(|name| sight.workloads.uids(name)).collect();
        let revisions = uids.iter().flat_map(|uid| sight.revisions.uids(uid)).collect();
        Self { workloads, uids, revisions }
    }

    fn stamps(&self, sight: &Collections) -> Vec<Stamp> {
        fn all(names: &[String]) -> impl Iterator<Item = &str> {
            names.iter().map(String::as_str)
        }
        let mut stamps = vec![
            sight.workloads.stamp(all(&self.workloads)),
            sight.revisions.stamp(all(&self.uids)),
            sight.pods.stamp(all(&self.uids).chain(all(&self.revisions))),
        ];
        // What is besides is there in ones and twos, and which of it matters is known to whoever looks.
        stamps.extend(sight.services.as_ref().map(|services| services.whole()));
        stamps.extend([&sight.maps, &sight.secrets].into_iter().flatten().map(|maps| maps.whole()));
        stamps
    }
}

/// How a workload is.
struct Picture {
    view: ReleaseView,
    pods: Vec<Pod>,
}

impl Picture {
    fn beside(self, canary: Self) -> Self {
        Self { view: with_canary(self.view, canary.view), pods: self.pods.into_iter().chain(canary.pods).collect() }
    }
}

/// The engine is gone: nobody listens any more.
struct Unheard;

impl Follower {
    pub(in crate::observe) fn new(subject: Subject, list: List, site: Site) -> Self {
        let outlook = Outlook::new(&site.workload, format!("{} {}", subject.kind.as_str(), subject.name));
        let own = OwnPod::told().filter(|own| own.namespace == subject.namespace).map(|own| own.name);
        Self {
            subject,
            own,
            site,
            list,
            kills: BTreeMap::new(),
            told: None,
            readings: BTreeMap::new(),
            names: Names::default(),
            unnamed_since: None,
            outlook,
            is_behind: false,
            interest: Interest::default(),
            stamps: Vec::new(),
        }
    }

    /// Follows it until the engine is gone or the future is dropped.
    pub(in crate::observe) async fn run(mut self, pulse: Pulse) {
        // Either way there is nothing left to do.
        let _ended: Result<(), Unheard> = self.follow(&pulse).await;
    }

    async fn follow(&mut self, pulse: &Pulse) -> Result<(), Unheard> {
        let sight = self.connect(pulse).await?;
        let mut waker = Waker::new(self.subject.interval, &self.site, &sight);
        loop {
            pulse.beat();
            let began = Instant::now();
            let why = waker.wait(&self.site).await;
            self.is_behind |= why == Why::Nudged;
            let is_due = why != Why::Changed;
            if !is_due && !self.is_concerned(&sight) {
                continue;
            }
            if self.site.shared.out.capacity() == 0 {
                self.site.shared.stats.skip(1);
                continue;
            }
            // What can't be looked at now is looked at the next time, and until then nothing is said, unless sight is lost.
            if let Err(fault) = self.catch_up(&sight).await
                && sight.workloads.sight() == Sight::Clear
            {
                tracing::debug!(workload = %self.site.workload, %fault, "not looked at since something was done");
                continue;
            }
            let now = self.site.shared.clock.now();
            if let Some(seen) = self.look(&sight, now) {
                let fault = seen.as_ref().err();
                if is_due {
                    self.site.shared.stats.releases.note(fault.map(|fault| fault.kind), began.elapsed());
                }
                self.outlook.note(fault);
                self.tell(seen, is_due).await?;
            }
        }
    }

    /// Without a way to the API server: says so once an interval, and tries again.
    async fn connect(&mut self, pulse: &Pulse) -> Result<Collections, Unheard> {
        let shared = Arc::clone(&self.site.shared);
        loop {
            pulse.beat();
            let subject = &self.subject;
            let besides = Besides {
                services: subject.beside.has_service(),
                maps: subject.keep.configmaps,
                secrets: subject.keep.secrets,
            };
            let context = subject.context.as_deref();
            match shared.clusters.sight(&shared, context, &subject.namespace, subject.kind, besides).await {
                Ok(sight) => return Ok(sight),
                Err(error) => {
                    let fault = Fault { kind: FaultKind::Local, detail: error.line() };
                    shared.stats.releases.note(Some(fault.kind), Duration::ZERO);
                    self.outlook.note(Some(&fault));
                    self.tell(Err(fault), true).await?;
                    sleep(self.subject.interval.into()).await;
                }
            }
        }
    }

    /// Whether anything changed that this workload is made of: most changes in a namespace are those of others. Where the look
    /// before came to nothing, the next one may come to something.
    fn is_concerned(&self, sight: &Collections) -> bool {
        self.is_behind || self.unnamed_since.is_some() || self.interest.stamps(sight) != self.stamps
    }

    /// Where something was done, what is seen from then on must not be older: a watch may be silent, and what it shows then
    /// looks as if somebody had undone it.
    async fn catch_up(&mut self, sight: &Collections) -> Result<(), Fault> {
        if !self.is_behind {
            return Ok(());
        }
        let subject = &self.subject;
        sight.workloads.look_at(&subject.name).await?;
        match (&subject.beside, &sight.services) {
            (Beside::Nothing, _) => {}
            (Beside::Canary(canary), _) => sight.workloads.look_at(canary).await?,
            (Beside::Colour { other, service, .. }, services) => {
                sight.workloads.look_at(other).await?;
                if let Some(services) = services {
                    services.look_at(service).await?;
                }
            }
        }
        self.is_behind = false;
        Ok(())
    }

    /// How the workload is, or why that is not known; nothing where that is only a moment away.
    fn look(&mut self, sight: &Collections, now: Timestamp) -> Option<Result<Picture, Fault>> {
        // Before the look: what changes during it is looked at again.
        self.interest = Interest::of(&self.subject, sight);
        self.stamps = self.interest.stamps(sight);
        let services = sight.services.as_ref().map(|services| services.sight());
        let all = [sight.workloads.sight(), sight.revisions.sight(), sight.pods.sight()];
        for sight in all.into_iter().chain(services) {
            match sight {
                Sight::Clear => {}
                Sight::Waiting => return None,
                Sight::Lost(fault) => return Some(Err(fault)),
            }
        }
        match self.whole_picture(sight) {
            Err(why) => Some(Err(local(why))),
            Ok(Some(mut picture)) => {
                self.unnamed_since = None;
                if let Some(whole) = &mut picture.view.orchestrated {
                    look_at_settings(sight.maps.as_deref(), SettingKind::ConfigMap, &mut whole.settings);
                    look_at_settings(sight.secrets.as_deref(), SettingKind::Secret, &mut whole.settings);
                }
                Some(Ok(picture))
            }
            Ok(None) => {
                let since = *self.unnamed_since.get_or_insert(now);
                let Subject { kind, name, namespace, .. } = &self.subject;
                let why =
                    format!("the controller of {} {namespace}/{name} names no revision of its template", kind.as_str());
                (now.since(since) >= NAMING).then(|| Err(local(why)))
            }
        }
    }

    /// All that belongs to it in one picture, once its controllers have said which revisions their templates are.
    fn whole_picture(&self, sight: &Collections) -> Result<Option<Picture>, String> {
        let first = self.workload(sight, &self.subject.name)?;
        match &self.subject.beside {
            Beside::Nothing => Ok(self.picture(sight, &first)),
            Beside::Canary(canary) => {
                let stable = self.picture(sight, &first);
                match sight.workloads.of(canary).pop() {
                    None => Ok(stable),
                    Some(canary) => {
                        let canary = self.picture(sight, &canary);
                        Ok(stable.zip(canary).map(|(stable, canary)| stable.beside(canary)))
                    }
                }
            }
            Beside::Colour { other, service, key } => {
                let second = self.workload(sight, other)?;
                let services = sight.services.as_ref();
                let found = services.and_then(|services| services.of(service).pop());
                let found = found.ok_or_else(|| format!("there is no Service {}/{service}", self.subject.namespace))?;
                let pictures = self.picture(sight, &first).zip(self.picture(sight, &second));
                let Some((one, other)) = pictures else { return Ok(None) };
                let pods = one.pods.into_iter().chain(other.pods).collect();
                let first = Colour { view: one.view, labels: first.labels };
                let second = Colour { view: other.view, labels: second.labels };
                let view = with_colours(&found, key, first, second)?;
                Ok(Some(Picture { view, pods }))
            }
        }
    }

    fn workload(&self, sight: &Collections, name: &str) -> Result<Workload, String> {
        let Subject { kind, namespace, .. } = &self.subject;
        let found = sight.workloads.of(name).pop();
        found.ok_or_else(|| format!("there is no {} {namespace}/{name}", kind.as_str()))
    }

    /// One workload's own picture, once its controller has said which revision its template is.
    fn picture(&self, sight: &Collections, workload: &Workload) -> Option<Picture> {
        let revisions = sight.revisions.of(&workload.uid);
        let revisions = newest_first(revisions.iter());
        let pods = pods_of(sight, workload, &revisions);
        let place = Place { context: self.subject.context.as_deref(), namespace: &self.subject.namespace };
        let view = releases(place, workload, &revisions, &pods.iter().collect::<Vec<_>>())?;
        Some(Picture { view, pods })
    }

    /// Tells what is new, and everything where that is due.
    async fn tell(&mut self, seen: Result<Picture, Fault>, is_due: bool) -> Result<(), Unheard> {
        let (view, pods) = match seen {
            Ok(Picture { view, pods }) => (Ok(view), pods),
            Err(fault) => (Err(fault), Vec::new()),
        };
        if let Ok(view) = &view {
            // The looks at the addresses before end first, so that none is told after them.
            self.look_at_pods(view, &pods);
            let successors = self.names.take_up(&pods);
            if !successors.is_empty() {
                self.send(Seen::Releases(Ok(without(view, &successors)))).await?;
                self.told = None;
            }
        }
        if is_due || self.told.as_ref() != Some(&view) {
            self.send(Seen::Releases(view.clone())).await?;
        }
        match &view {
            Ok(view) => self.tell_readings(view, &pods, is_due).await?,
            Err(fault) => {
                let known: Vec<InstanceId> = self.readings.keys().cloned().collect();
                for instance in known.into_iter().filter(|_| is_due) {
                    self.send(Seen::Host { instance, result: Err(fault.clone()) }).await?;
                }
            }
        }
        self.told = Some(view);
        Ok(())
    }

    /// Only pods in service are looked at, from now on. Those that wait for traffic have no numbers to show, only health.
    fn look_at_pods(&mut self, view: &ReleaseView, pods: &[Pod]) {
        let idle = view.orchestrated.iter().filter_map(|orchestrated| orchestrated.idle.as_ref());
        let idle: Vec<&InstanceId> = idle.flat_map(|idle| &idle.instances).collect();
        let serving = view.orchestrated.iter().flat_map(|orchestrated| &orchestrated.serving);
        let (waiting, serving): (Vec<&InstanceId>, Vec<_>) = serving.partition(|instance| idle.contains(instance));
        let pod_of = |instance: &&InstanceId| pods.iter().find(|pod| pod.name == instance.as_str());
        let (offer, own) = (&self.subject.offer, self.own.as_deref());
        let mut found = addresses(serving.iter().filter_map(pod_of), offer, own);
        let offer = Offer { scrape: None, health: offer.health.clone() };
        found.probes.extend(addresses(waiting.iter().filter_map(pod_of), &offer, own).probes);
        self.list.set(found);
    }

    async fn tell_readings(&mut self, view: &ReleaseView, pods: &[Pod], is_due: bool) -> Result<(), Unheard> {
        self.kills.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        let mut readings = BTreeMap::new();
        for (instance, _) in &view.instances {
            let Some(pod) = pods.iter().find(|pod| pod.name == instance.as_str()) else { continue };
            let kills = self.kills.entry(pod.uid.clone()).or_default().note(pod);
            let reading = HostReading {
                oom_kills: Some(kills),
                restarts: Some(pod.restarts()),
                // Of one that nobody took up there is nothing to say: it counts as absent.
                active: pod.is_begun.then_some(pod.is_ready),
                image_missing: Some(pod.lacks_image()),
                teller: Teller::Orchestrator,
            };
            readings.insert(instance.clone(), reading);
        }
        let before = std::mem::replace(&mut self.readings, readings.clone());
        for (instance, reading) in readings {
            if is_due || before.get(&instance) != Some(&reading) {
                self.send(Seen::Host { instance, result: Ok(reading) }).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, seen: Seen) -> Result<(), Unheard> {
        let shared = &self.site.shared;
        let observation = Observation { workload: self.site.workload.clone(), at: shared.clock.now(), seen };
        shared.out.send(observation).await.map_err(|_| Unheard)
    }
}

/// Which pod had which name last.
#[derive(Debug, Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    /// Takes up who has which name now. The names that another pod had before: a StatefulSet's pod comes back under its
    /// name and elsewhere, and may do so between two looks.
    fn take_up(&mut self, pods: &[Pod]) -> Vec<InstanceId> {
        let now: BTreeMap<String, String> = pods.iter().map(|pod| (pod.name.clone(), pod.uid.clone())).collect();
        let before = std::mem::replace(&mut self.0, now);
        let is_other = |(name, uid): &(&String, &String)| before.get(*name).is_some_and(|before| before != *uid);
        self.0.iter().filter(is_other).map(|(name, _)| InstanceId::new(name)).collect()
    }
}

/// The picture while these are out of service: what was seen of one is not of the one that comes after it.
fn without(view: &ReleaseView, gone: &[InstanceId]) -> ReleaseView {
    let mut view = view.clone();
    if let Some(orchestrated) = &mut view.orchestrated {
        orchestrated.serving.retain(|instance| !gone.contains(instance));
    }
    view
}

/// What is there of the settings of one sort that any of the releases names. Where they can't be seen, no release is held
/// against what it names: the rest is seen as well as ever.
fn look_at_settings(maps: Option<&Collection<Map>>, kind: SettingKind, settings: &mut Settings) {
    let Some(maps) = maps.filter(|maps| maps.sight() == Sight::Clear) else { return };
    settings.watched.insert(kind);
    let named: BTreeSet<&Setting> = settings.named.values().flatten().collect();
    let present = |setting: &Setting| {
        let found = maps.of(&setting.name).pop()?;
        Some((
            setting.clone(),
            Present { content: found.content, is_immutable: found.is_immutable, written: found.written },
        ))
    };
    let there: Vec<(Setting, Present)> =
        named.into_iter().filter(|setting| setting.kind == kind).filter_map(present).collect();
    settings.there.extend(there);
}

fn pods_of(sight: &Collections, workload: &Workload, revisions: &[&Revision]) -> Vec<Pod> {
    match workload.kind {
        ObjectKind::Deployment => revisions.iter().flat_map(|revision| sight.pods.of(&revision.uid)).collect(),
        ObjectKind::StatefulSet | ObjectKind::DaemonSet => sight.pods.of(&workload.uid),
    }
}

fn local(detail: String) -> Fault {
    Fault { kind: FaultKind::Local, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_comes_back_under_its_name_is_another_one() {
        let pod = |name: &str, uid: &str| Pod {
            uid: uid.to_owned(),
            name: name.to_owned(),
            owner: "set".to_owned(),
            hash: "h1".to_owned(),
            ip: None,
            is_ready: true,
            is_ending: false,
            is_begun: true,
            created: None,
            ends_by: None,
            containers: Vec::new(),
            ports: Vec::new(),
        };
        let mut names = Names::default();
        assert_eq!(names.take_up(&[pod("shop-0", "a"), pod("shop-1", "b")]), []);
        assert_eq!(names.take_up(&[pod("shop-0", "a"), pod("shop-1", "c")]), [InstanceId::new("shop-1")]);
        assert_eq!(names.take_up(&[pod("shop-1", "c")]), []);
        assert_eq!(names.take_up(&[pod("shop-0", "d"), pod("shop-1", "c")]), [], "its name was free for a while");
    }
}
