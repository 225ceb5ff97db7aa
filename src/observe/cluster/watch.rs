//! One list, then one watch that goes on from it: what is known of a kind of objects stays what the API server has.
//!
//! Each watch is asked to end after a while and is begun again where it ended. So a watch that is silent because its
//! connection is dead is noticed by this side, and one that is silent because nothing happens gives a sign of life each
//! time that it is begun anew. A ready-made watcher hides that sign, and then nobody can tell "nothing happens" from
//! "nothing is seen". Where something begins to go on it is begun anew at once: by what a silent one shows, the pods of a
//! release that was replaced would be judged as if it still served. One that stays open for long is known to be dead sooner
//! where the API server sends bookmarks, which say how far it has come while nothing happens.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{StreamExt, pin_mut};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::collection::Kept;
use super::crowd::{Crowd, Seat};
use crate::cluster::facts::Fact;
use crate::cluster::{Courtesy, describe};
use crate::domain::observation::{Fault, FaultKind};

/// How much later its end may come than it was asked for.
const GRACE: Duration = Duration::from_secs(5);
/// How long the head of an answer, or a page of a list, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects a page of a list: whole objects are large, and what is kept of them is not.
const PAGE: u32 = 100;
/// Shortest and longest wait before something that failed is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// Lists in a row that may show less than what was seen already. Where still more do, the server's past was put back from a
/// backup, and what it shows is how things are.
const STALE: u32 = 10;
/// A watch that ends sooner than this was not kept open as asked.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// Why a watch ended.
#[derive(Debug)]
enum End {
    /// As it was asked to.
    InTime,
    /// What it went on from is too old: only a new list says what there is.
    Expired,
    /// It broke.
    Broken(Fault),
}

/// How far watches have come.
#[derive(Default)]
struct Reached {
    version: String,
    /// Whether a bookmark came on the present one. No API server has to send any, and of a kind of which nothing has changed
    /// since a watch was begun it sends none: where they were taken for granted, such a watch would be begun twice as often.
    has_bookmarks: bool,
    /// Since when the present one is open: what asks in vain shows nothing, however long it asks.
    opened_at: Option<Instant>,
    /// When it was last seen how things are: as the last list or stream ended.
    seen_at: Option<Instant>,
}

impl Reached {
    /// Whether the last watch was open for long enough to show what there is.
    fn was_open(&self) -> bool {
        self.opened_at.is_some_and(|at| at.elapsed() >= TOO_SHORT)
    }
}

/// What is watched.
#[derive(Clone)]
pub(super) struct Source<K> {
    /// Where the objects are.
    pub(super) api: Api<K>,
    /// Where not all are meant.
    pub(super) selector: Option<String>,
    /// Whether the API server asks to be left alone.
    pub(super) courtesy: Courtesy,
    /// The watches beside it.
    pub(super) crowd: Crowd,
}

/// Keeps what is known in step with what there is, until it is dropped. `read` says what an object means; nothing where it
/// is of no interest.
pub(super) async fn keep<K, F, R>(source: Source<K>, kept: Arc<Kept<F>>, read: R)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    F: Fact,
    R: Fn(K) -> Option<F>,
{
    let seat = source.crowd.join();
    let mut pause = Pause::new(&source.courtesy);
    let (mut reached, mut stale) = (Reached::default(), 0);
    loop {
        match list(&source, &read).await {
            Ok((_, listed)) if is_older(&listed, &reached.version) && stale < STALE => {
                stale += 1;
                kept.lose(fault(&format!("a list as of {listed}, where {} was seen already", reached.version)));
            }
            Ok((facts, listed)) => {
                kept.replace(facts, number(&listed));
                (reached.version, reached.seen_at, stale) = (listed, Some(Instant::now()), 0);
                // Where no watch can go on from a list, each list is one more in vain.
                if go_on(&source, &seat, &mut reached, &kept, &read).await {
                    pause.reset();
                }
            }
            // In the middle of the pages: from the beginning, a little later.
            Err(End::Expired | End::InTime) => {}
            Err(End::Broken(fault)) => kept.lose(fault),
        }
        pause.wait().await;
    }
}

/// Reads one object, whatever its watch shows: what the watch says later of an older one is not believed. Where it may not
/// be read, or is not there, the watch's word stands.
pub(super) async fn look<K, F, R>(source: &Source<K>, name: &str, kept: &Kept<F>, read: &R) -> Result<(), Fault>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    F: Fact,
    R: Fn(K) -> Option<F>,
{
    match timeout(PATIENCE, source.api.get_opt(name)).await {
        Err(_) => Err(late()),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => Ok(()),
        Ok(Err(error)) => Err(fault(&describe(&error))),
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(object))) => {
            let version = object.resource_version().as_deref().and_then(number);
            if let Some(fact) = read(object) {
                kept.put_ahead(fact, version);
            }
            Ok(())
        }
    }
}

/// Versions that are numbers grow, and are compared; of others nothing is known.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

fn is_older(version: &str, than: &str) -> bool {
    matches!((number(version), number(than)), (Some(version), Some(than)) if version < than)
}

async fn list<K, F, R>(source: &Source<K>, read: &R) -> Result<(Vec<F>, String), End>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    R: Fn(K) -> Option<F>,
{
    let mut params = ListParams { label_selector: source.selector.clone(), ..ListParams::default() }.limit(PAGE);
    let mut facts = Vec::new();
    loop {
        let page =
            timeout(PATIENCE, source.api.list(&params)).await.map_err(|_| End::Broken(late()))?.map_err(broken)?;
        facts.extend(page.items.into_iter().filter_map(read));
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok((facts, page.metadata.resource_version.unwrap_or_default())),
        }
    }
}

/// Watches on and on from what was reached; returns when only a new list will do, and whether any watch was open for long
/// until then. Once broken is a connection that was cut; twice without a sign of life in between is lost sight, and so is
/// none that is open for [`GRACE`].
async fn go_on<K, F, R>(source: &Source<K>, seat: &Seat, reached: &mut Reached, kept: &Kept<F>, read: &R) -> bool
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
    F: Fact,
    R: Fn(K) -> Option<F>,
{
    let mut pause = Pause::new(&source.courtesy);
    let mut was_any_open = false;
    loop {
        let end = watch(source, seat, reached, kept, read).await;
        if reached.opened_at.is_some() {
            reached.seen_at = Some(Instant::now());
        }
        let was_open = reached.was_open();
        was_any_open |= was_open;
        if was_open {
            pause.reset();
        }
        match end {
            End::Expired => return was_any_open,
            End::InTime if was_open => {}
            End::InTime => pause.wait().await,
            End::Broken(fault) => {
                if pause.failures > 0 {
                    kept.lose(fault);
                }
                pause.wait().await;
            }
        }
    }
}

async fn watch<K, F, R>(source: &Source<K>, seat: &Seat, reached: &mut Reached, kept: &Kept<F>, read: &R) -> End
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
    F: Fact,
    R: Fn(K) -> Option<F>,
{
    let mut heed = kept.heed();
    let mut heeding = *heed.borrow_and_update();
    let (began, turn) = (Instant::now(), seat.turn(heeding > 0));
    (reached.has_bookmarks, reached.opened_at) = (false, None);
    // In whole seconds, and none is no limit.
    let seconds = u32::try_from(turn.as_secs()).unwrap_or(u32::MAX).max(1);
    let params = WatchParams { label_selector: source.selector.clone(), ..WatchParams::default() }.timeout(seconds);
    let opened = {
        let opening = timeout(PATIENCE, source.api.watch(&params, &reached.version));
        pin_mut!(opening);
        let blind_at = reached.seen_at.unwrap_or(began) + GRACE;
        match timeout_at(blind_at, &mut opening).await {
            Ok(opened) => opened,
            // Meanwhile nothing is seen, whatever comes of it.
            Err(_) => {
                kept.lose(fault(&format!("no watch could be opened for {} s", GRACE.as_secs())));
                opening.await
            }
        }
    };
    let events = match opened {
        Err(_) => return End::Broken(late()),
        Ok(Err(error)) => return broken(error),
        Ok(Ok(events)) => events,
    };
    kept.regain();
    reached.opened_at = Some(Instant::now());
    pin_mut!(events);
    let mut heard = Instant::now();
    loop {
        let is_cut_short = heeding > 0 && turn > seat.shortest();
        let whole = began + if is_cut_short { seat.shortest() } else { turn + GRACE };
        let silent = heard + seat.silent();
        let is_dead_before = reached.has_bookmarks && silent < whole;
        let end = if is_dead_before { silent } else { whole };
        let next = tokio::select! {
            next = timeout_at(end, events.next()) => next,
            Ok(()) = heed.changed() => {
                let before = std::mem::replace(&mut heeding, *heed.borrow_and_update());
                if heeding > before && began.elapsed() >= seat.young() {
                    return End::InTime;
                }
                continue;
            }
        };
        match next {
            Err(_) if is_dead_before || is_cut_short => return End::InTime,
            Err(_) => return End::Broken(fault("the watch was silent beyond its end")),
            Ok(None) => return End::InTime,
            Ok(Some(Err(error))) => return broken(error),
            Ok(Some(Ok(event))) => {
                heard = Instant::now();
                if let Some(end) = take_in(event, reached, kept, read) {
                    return end;
                }
            }
        }
    }
}

fn take_in<K, F, R>(event: WatchEvent<K>, reached: &mut Reached, kept: &Kept<F>, read: &R) -> Option<End>
where
    K: Resource<DynamicType = ()>,
    F: Fact,
    R: Fn(K) -> Option<F>,
{
    let (object, is_there) = match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, true),
        WatchEvent::Deleted(object) => (object, false),
        WatchEvent::Bookmark(bookmark) => {
            reached.version = bookmark.metadata.resource_version;
            reached.has_bookmarks = true;
            kept.reach(number(&reached.version));
            return None;
        }
        WatchEvent::Error(status) => return Some(broken(kube::Error::Api(status))),
    };
    if let Some(newer) = object.resource_version() {
        reached.version = newer;
    }
    if let Some(uid) = object.uid() {
        kept.put(&uid, number(&reached.version), read(object), is_there);
    }
    None
}

/// 410 comes as an answer, as an event within a stream, and between two pages of a list.
fn broken(error: kube::Error) -> End {
    match &error {
        kube::Error::Api(status) if status.code == 410 || status.reason == "Expired" => End::Expired,
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            End::Broken(Fault { kind: FaultKind::Local, detail: describe(&error) })
        }
        _ => End::Broken(fault(&describe(&error))),
    }
}

fn late() -> Fault {
    fault(&format!("the API server did not answer within {} s", PATIENCE.as_secs()))
}

fn fault(detail: &str) -> Fault {
    Fault { kind: FaultKind::Unreachable, detail: detail.to_owned() }
}

/// Waits that grow while nothing succeeds, and are as long as the API server asks for.
struct Pause<'a> {
    lengths: ExponentialBackoff,
    failures: u32,
    courtesy: &'a Courtesy,
}

impl<'a> Pause<'a> {
    fn new(courtesy: &'a Courtesy) -> Self {
        let (shortest, longest) = PAUSES;
        let lengths = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest);
        Self { lengths: lengths.with_jitter().without_max_times().build(), failures: 0, courtesy }
    }

    fn reset(&mut self) {
        *self = Self::new(self.courtesy);
    }

    async fn wait(&mut self) {
        self.failures += 1;
        sleep(self.lengths.next().unwrap_or(PAUSES.1).max(self.courtesy.wait())).await;
    }
}

#[cfg(test)]
mod tests;
