//! When to look at what is watched: at once where something changes, and once an interval however much does.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Sight;
use super::collection::Heed;
use crate::domain::time::{Span, Timestamp};
use crate::observe::duty::Beat;
use crate::observe::grid::Grid;
use crate::observe::shared::Site;

/// One change seldom comes alone: what comes within this time is told together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Why to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Something may have changed.
    Changed,
    /// Everything is due again.
    Due,
    /// Somebody asked for it: something was done.
    Nudged,
}

/// Says when to look.
pub(super) struct Waker {
    grid: Grid,
    /// When everything is due. It stays so until then: changes come without a pause where there are many workloads, and none
    /// of them may put it off.
    due: Timestamp,
    workloads: watch::Receiver<u64>,
    revisions: watch::Receiver<u64>,
    pods: watch::Receiver<u64>,
    services: Option<watch::Receiver<u64>>,
    maps: Option<watch::Receiver<u64>>,
    secrets: Option<watch::Receiver<u64>>,
    beat: watch::Receiver<Beat>,
    nudges: u64,
    sight: Sight,
    /// What is suspected is not judged for long by what a silent watch shows.
    heed: Option<Vec<Heed>>,
}

impl Waker {
    /// Everything is due at first: others may have had it all watched long ago.
    pub(super) fn new(interval: Span, site: &Site, sight: &Sight) -> Self {
        let beat = *site.beat.borrow();
        Self {
            grid: Grid::new(interval, &(site.workload.as_str(), "cluster")),
            due: site.shared.clock.now(),
            workloads: sight.workloads.changes(),
            revisions: sight.revisions.changes(),
            pods: sight.pods.changes(),
            services: sight.services.as_ref().map(|services| services.changes()),
            maps: sight.maps.as_ref().map(|maps| maps.changes()),
            secrets: sight.secrets.as_ref().map(|secrets| secrets.changes()),
            nudges: beat.nudges,
            beat: site.beat.clone(),
            heed: beat.fast.then(|| sight.heed()),
            sight: sight.clone(),
        }
    }

    /// Waits for a change, or until everything is due.
    pub(super) async fn wait(&mut self, site: &Site) -> Why {
        let now = site.shared.clock.now();
        if now >= self.due {
            return self.due_at(now);
        }
        let until_due = sleep(Duration::from(self.due.since(now)));
        tokio::select! {
            () = until_due => return self.due_at(site.shared.clock.now()),
            _ = self.workloads.changed() => {}
            _ = self.revisions.changed() => {}
            _ = self.pods.changed() => {}
            () = changed(self.services.as_mut()) => {}
            () = changed(self.maps.as_mut()) => {}
            () = changed(self.secrets.as_mut()) => {}
            changed = self.beat.changed() => {
                if changed.is_err() {
                    // Whoever told the pace is gone, and this task with it in a moment.
                    sleep(TOGETHER).await;
                }
                let Beat { fast, nudges } = *self.beat.borrow_and_update();
                self.heed = fast.then(|| self.heed.take().unwrap_or_else(|| self.sight.heed()));
                let is_nudge = std::mem::replace(&mut self.nudges, nudges) != nudges;
                return if is_nudge { Why::Nudged } else { Why::Changed };
            }
        }
        sleep(TOGETHER).await;
        let all = [&mut self.workloads, &mut self.revisions, &mut self.pods];
        let besides = [self.services.as_mut(), self.maps.as_mut(), self.secrets.as_mut()];
        for changes in all.into_iter().chain(besides.into_iter().flatten()) {
            changes.mark_unchanged();
        }
        Why::Changed
    }

    fn due_at(&mut self, now: Timestamp) -> Why {
        self.due = self.grid.next(now.max(self.due));
        Why::Due
    }
}

/// Never, where nothing is watched.
async fn changed(changes: Option<&mut watch::Receiver<u64>>) {
    match changes {
        Some(changes) => drop(changes.changed().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::clock::Clock;
    use crate::cluster::settings::Keyring;
    use crate::observe::cluster::collection::Collection;
    use crate::observe::cluster::crowd::Crowd;
    use crate::observe::shared::Shared;

    fn site() -> (Site, watch::Sender<Beat>) {
        let (out, _observations) = mpsc::channel(1);
        let (pace, beat) = watch::channel(Beat::default());
        let shared = Shared::new(Clock::start(None), out, Arc::default(), Keyring::default(), Crowd::default());
        (Site { shared: Arc::new(shared), workload: "shop".into(), beat }, pace)
    }

    fn sight() -> Sight {
        Sight {
            workloads: Arc::new(Collection::new("workloads".to_owned()).0),
            revisions: Arc::new(Collection::new("revisions".to_owned()).0),
            pods: Arc::new(Collection::new("pods".to_owned()).0),
            services: Some(Arc::new(Collection::new("services".to_owned()).0)),
            maps: None,
            secrets: None,
        }
    }

    #[tokio::test]
    async fn while_something_is_going_on_all_that_is_watched_is_heeded() {
        let ((site, pace), sight) = (site(), sight());
        let readers = || {
            let pods = *sight.pods.kept().heed().borrow();
            let services = *sight.services.as_ref().unwrap().kept().heed().borrow();
            assert_eq!(pods, services);
            assert_eq!(pods, *sight.workloads.kept().heed().borrow());
            assert_eq!(pods, *sight.revisions.kept().heed().borrow());
            pods
        };
        let mut waker = Waker::new(Span::from_secs(3600), &site, &sight);
        assert_eq!(waker.wait(&site).await, Why::Due);
        assert_eq!(readers(), 0);
        pace.send_modify(|beat| beat.fast = true);
        assert_eq!(waker.wait(&site).await, Why::Changed);
        let second = Waker::new(Span::from_secs(3600), &site, &sight);
        assert_eq!(readers(), 2);
        pace.send_modify(|beat| beat.nudges += 1);
        assert_eq!(waker.wait(&site).await, Why::Nudged);
        drop(second);
        assert_eq!(readers(), 1);
        pace.send_modify(|beat| beat.fast = false);
        assert_eq!(waker.wait(&site).await, Why::Changed);
        assert_eq!(readers(), 0);
    }

    #[tokio::test]
    async fn what_changes_without_a_pause_puts_nothing_off() {
        let ((site, _pace), sight) = (site(), sight());
        let kept = sight.workloads.kept();
        let _changes = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                kept.replace(Vec::new(), None);
                sleep(Duration::from_millis(1)).await;
            }
        }));
        let mut waker = Waker::new(Span::from_millis(300), &site, &sight);
        assert_eq!(waker.wait(&site).await, Why::Due);
        let mut due = 0;
        // Each wait is for a tenth of a second, or longer.
        for _ in 0..20 {
            due += u32::from(waker.wait(&site).await == Why::Due);
        }
        assert!(due >= 3, "{due} times in two seconds at a pace of a third of one");
    }
}
