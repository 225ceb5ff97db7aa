//! `rollbackd run`: the parts put together, kept together, and taken apart in order.
//!
//! A duty that ends by itself ends the process, loudly: a daemon without one of its limbs must not look alive. The first
//! SIGTERM or SIGINT lets a running step end; the second ends at once.

mod forgotten;
mod looks;
mod loops;
mod memory;
mod plots;
mod readiness;
mod reload;
mod terms;
mod unstarted;
mod waits;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::Failure;
use super::{NO, RunArgs, USAGE, YES, print};
use crate::act::Hands;
use crate::clock::{self, Clock, Turns};
use crate::cluster::Clients;
use crate::cluster::settings::Keyring;
use crate::cluster::vault::Vault;
use crate::config::Overrides;
use crate::config::model::Config;
use crate::domain::fleet::Fleet;
use crate::domain::id::WorkloadId;
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::Mode;
use crate::domain::time::{Span, Timestamp};
use crate::engine::ports::{Alone, Leadership, Looks, Pager, Witness};
use crate::engine::{Edges, Engine, Handle, Now, OBSERVATION_QUEUE};
use crate::host::process;
use crate::http::{self, AppState, Token};
use crate::net::secret::SecretFile;
use crate::notify::{self, Clocks, Receivers};
use crate::observe::{ObserveStats, Observers};
use crate::store::{Books, RETENTION, Store};
use crate::systemd::{Duty, Notifier};
use crate::telemetry::{self, Metrics, Stream, Telemetry};

use loops::{LOOP_PATIENCE, Loops, WORK_PATIENCE};
use memory::Keeper;
use reload::{InForce, Reloader};
use unstarted::Unstarted;
use waits::{Signals, on, until_end, within};

/// Time between two looks at the parts' own state for the metrics.
const GAUGE_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two prunings of the journal.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// How long everything together may take to stop, beyond a running step.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long the event loop may take to hear that nothing is to be begun any more.
const PARK_LIMIT: Duration = Duration::from_secs(1);

/// How long what was seen lately may take to be kept at the end, and how long where another replica waits to go on.
const KEEP_LIMIT: Duration = Duration::from_secs(5);
const HANDOVER_LIMIT: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &RunArgs) -> u8 {
    if let Err(error) = telemetry::init(args.log_format.into()) {
        print::complain(&anyhow!(error));
        return USAGE;
    }
    print::finish(async {
        let config = load(args)?;
        serve(args, config).await
    })
}

fn load(args: &RunArgs) -> Result<Config, Failure> {
    let overrides = Overrides { mode: args.mode.map(Mode::from) };
    let config = crate::config::load(&args.config, overrides);
    config.map_err(|error| Failure { code: if error.may_pass() { NO } else { USAGE }, error: anyhow!(error) })
}

/// All parts, each of which must go on for the daemon to be of use.
struct Daemon {
    store: Store,
    clock: Clock,
    engine: Handle,
    observers: Arc<Observers>,
    metrics: Arc<Metrics>,
    token: Token,
    in_force: watch::Sender<Arc<InForce>>,
    /// Whether another replica waits to go on.
    is_one_of_several: bool,
    receivers: watch::Sender<Receivers>,
    pager: Arc<dyn Pager>,
    notifier: Arc<Notifier>,
    stop: CancellationToken,
    /// Stops the candidate, last of all: until then the lead is this replica's.
    resign: CancellationToken,
    duties: JoinSet<&'static str>,
    keeper: Keeper,
    loops: Loops,
}

/// A start that takes longer is told: a disk that hangs would keep it waiting for ever, and nobody would know.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Duties that write for as long as this replica leads.
const LEADING: [&str; 2] = ["engine", "terms"];

async fn serve(args: &RunArgs, config: Config) -> Result<u8, Failure> {
    let fail = |error: anyhow::Error| Failure { code: NO, error };
    let mut signals = Signals::new().map_err(fail)?;
    let mut hang_up = on(SignalKind::hangup()).map_err(fail)?;
    let notifier = Notifier::from_environment(|name| std::env::var_os(name), std::process::id());
    let notifier = Arc::new(notifier.map_err(|error| fail(anyhow!(error)))?);
    let unstarted = Unstarted::new(&config, std::env::var_os("RUNTIME_DIRECTORY"));
    let start = within(START_PATIENCE, begin(args, config, &notifier), async || {
        let error =
            anyhow!("for {START_PATIENCE:?} now: the disk of the state directory does not answer, or the cluster");
        notifier.status(&format!("does not start: {error:#}"));
        unstarted.tell(&error).await;
    });
    let begun = tokio::select! {
        begun = start => begun,
        () = signals.stop() => {
            tracing::warn!("told to stop before it had started");
            return Ok(YES);
        }
    };
    let (mut reloader, mut daemon) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            notifier.status(&format!("does not start: {error:#}"));
            unstarted.tell(&error).await;
            return Err(fail(error));
        }
    };
    if let Some(notice) = unstarted.is_over() {
        daemon.pager.page(notice);
    }
    notifier.ready(&status_line(reloader.config()));
    let mut duties = std::mem::take(&mut daemon.duties);
    let code = loop {
        let news = async {
            tokio::select! {
                _ = hang_up.recv() => News::Policy,
                () = reloader.selection_changes() => News::Selection,
            }
        };
        let news = match until_end(news, signals.stop(), &mut duties).await {
            Ok(news) => news,
            Err(code) => break code,
        };
        let taken_in = async {
            match news {
                News::Policy => reloader.reload(&daemon).await,
                News::Selection => reloader.follow_selection(&daemon).await,
            }
        };
        if let Err(code) = until_end(taken_in, signals.stop(), &mut duties).await {
            break code;
        }
    };
    daemon.duties = duties;
    if code == NO {
        daemon.resign.cancel();
    }
    // What is begun from here on would be cut off.
    let parked = tokio::time::timeout(PARK_LIMIT, daemon.engine.park()).await;
    if parked.is_err() {
        tracing::warn!(limit = ?PARK_LIMIT, "the loop does not turn: it stops where it is");
    }
    notifier.stopping("letting a running step end");
    tokio::select! {
        () = daemon.take_apart() => Ok(code),
        () = signals.stop() => {
            tracing::warn!("told to stop twice: ending at once; the next start settles what was under way");
            Ok(code)
        }
    }
}

async fn begin(args: &RunArgs, config: Config, notifier: &Arc<Notifier>) -> anyhow::Result<(Reloader, Daemon)> {
    // Before the address: who holds the state directory is the better answer where both are taken.
    let state_dir = config.daemon.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(&state_dir)).await?;
    let store = opened.context("the journal can't be opened")?;
    end_what_was_left(&config.daemon.state_dir).await?;
    let listen = config.daemon.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    // Port 0 is any free one: the log says which it became.
    let listen = listener.local_addr().context("the address that was taken is not known")?;
    let reloader = Reloader::begin(args.clone(), config).await;
    let daemon = assemble(&reloader, store, listener, Arc::clone(notifier)).await?;
    let Config { workloads, daemon: terms, .. } = reloader.config();
    tracing::info!(%listen, workloads = workloads.len(), mode = %terms.mode, "ready");
    Ok((reloader, daemon))
}

/// A step that a daemon was killed in is settled anew, and not beside what it had begun.
async fn end_what_was_left(state_dir: &Path) -> anyhow::Result<()> {
    let state_dir = state_dir.to_owned();
    let ended = tokio::task::spawn_blocking(move || process::end_what_was_left(&state_dir)).await?;
    if ended > 0 {
        tracing::warn!(programs = ended, "what the daemon before this one was running when it was killed is ended");
    }
    Ok(())
}

fn status_line(config: &Config) -> String {
    let warnings: String = config.warnings().iter().map(|warning| format!("; {warning}")).collect();
    format!("watching {} workloads, mode {}{warnings}", config.workloads.len(), config.daemon.mode)
}

async fn assemble(
    policy: &Reloader,
    store: Store,
    listener: TcpListener,
    notifier: Arc<Notifier>,
) -> anyhow::Result<Daemon> {
    let config = policy.config();
    let (states, damaged) = fold(&store).await?;
    let newest = states.iter().map(|(_, state)| state.last_at).max();
    let clock = Clock::start(newest);
    let mut left = Vec::new();
    let ballot = match &config.daemon.lease {
        None => {
            let may_know = |workload: &WorkloadId| policy.in_force().may_know(workload);
            left = forgotten::close(&store, &states, may_know, config, clock.now()).await;
            None
        }
        Some(lease) => Some(terms::ballot(lease, store.clone(), clock).await?),
    };
    let (books, leadership): (Books, Arc<dyn Leadership>) = match &ballot {
        None => (Books::alone(store.clone()), Arc::new(Alone)),
        Some(ballot) => (ballot.books.clone(), Arc::clone(&ballot.tenure) as Arc<dyn Leadership>),
    };
    let home = ballot.as_ref().map(|ballot| ballot.home.clone());
    let now: Now = Arc::new(move || clock.now());
    let stop = CancellationToken::new();
    let mut duties = JoinSet::new();

    let (seen, observations) = mpsc::channel(OBSERVATION_QUEUE);
    let keyring = keyring(config).await?;
    let stats = Arc::new(ObserveStats::default());
    let observers = Arc::new(Observers::with_keyring(clock, seen, stats, keyring.clone(), policy.crowd().clone()));
    let mut metrics = Metrics::default();
    metrics.add(Box::new(looks::Looks::new(Arc::clone(observers.stats()))));
    let metrics = Arc::new(metrics);
    let stream = Stream::default();
    let (receivers, current_receivers) = watch::channel(receivers_of(config));
    let clocks = Clocks { timeline: Arc::clone(&now), wall: Arc::new(clock::wall) };
    let mut loops = Loops::default();
    let wall = Arc::clone(&clocks.wall);
    let turns = loops.watch("pager", LOOP_PATIENCE);
    let (pager, paging) = notify::pager(current_receivers.clone(), wall, turns, stop.clone());
    duties.spawn(named("pager", paging));
    let pager = Arc::new(pager) as Arc<dyn Pager>;

    let edges = Edges {
        actuator: Arc::new(hands(&leadership).with_home(home).with_shelf(Arc::new(books.clone()), keyring)),
        journal: Arc::new(books),
        looks: Arc::clone(&observers) as Arc<dyn Looks>,
        pager: Arc::clone(&pager),
        witness: Arc::new(Telemetry::new(Arc::clone(&metrics), stream.clone())) as Arc<dyn Witness>,
        leadership: Arc::clone(&leadership),
        now: Arc::clone(&now),
    };
    let mut fleet = fleet(config, states, &damaged);
    for id in config.workloads.keys() {
        fleet.recall(id, memory::kept(&store, id).await);
    }
    let (mut engine, handle) = Engine::new(fleet, edges, observations);
    for (id, why) in damaged {
        if let Some(workload) = config.workloads.get(&id) {
            engine.set_aside(Arc::clone(&workload.policy), why);
        }
    }
    duties.spawn(named("engine", engine.run(stop.clone())));
    handle.part(left).await?;
    let keeper = Keeper { engine: handle.clone(), store: store.clone(), now: Arc::clone(&now) };
    duties.spawn(named("memory", keeper.clone().keep(loops.watch("memory", WORK_PATIENCE), stop.clone())));
    let (in_force, policy_in_force) = watch::channel(Arc::clone(policy.in_force()));
    let resign = CancellationToken::new();
    let is_one_of_several = ballot.is_some();
    match ballot {
        None => {
            let turns = loops.watch("outbox", LOOP_PATIENCE);
            duties.spawn(named("outbox", drain(store.clone(), current_receivers, clocks, turns, stop.clone())));
        }
        Some(terms::Ballot { candidate, tenure, books, home: _ }) => {
            duties.spawn(named("lease", candidate.run(resign.clone())));
            let (store, engine, receivers) = (store.clone(), handle.clone(), current_receivers);
            let (policy, turns) = (policy_in_force.clone(), loops.watch("outbox", LOOP_PATIENCE));
            let terms = terms::Terms { tenure, books, store, engine, policy, receivers, clocks, turns };
            duties.spawn(named("terms", terms.run(stop.clone())));
        }
    }
    let turns = loops.watch("plots", WORK_PATIENCE);
    duties.spawn(named("plots", plots::keep(handle.clone(), store.clone(), stream.listen(), turns, stop.clone())));
    let turns = loops.watch("readiness", WORK_PATIENCE);
    let looking = readiness::keep(handle.clone(), policy_in_force, Arc::clone(&metrics), turns, stop.clone());
    duties.spawn(named("readiness", looking));
    let token = Token::new(config.daemon.token_file.clone());
    let app = AppState {
        engine: handle.clone(),
        leadership,
        history: Arc::new(store.reader().clone()),
        metrics: Arc::clone(&metrics),
        stream,
        token: token.clone(),
        now: Arc::clone(&now),
        of_wall: Arc::new(move |wall| clock.of_wall(wall)),
        external_host: config.daemon.external_url.as_deref().and_then(host_of),
        internal: http::Internal::new(stop.clone()),
    };
    let turns = loops.watch("http", LOOP_PATIENCE);
    duties.spawn(named("http", http::serve(listener, Arc::new(app), turns, stop.clone())));
    observers.apply(config);

    let mut daemon = Daemon {
        store,
        clock,
        engine: handle,
        observers,
        metrics,
        token,
        in_force,
        is_one_of_several,
        receivers,
        pager,
        notifier,
        stop,
        resign,
        duties,
        keeper,
        loops,
    };
    daemon.spawn_housekeeping();
    Ok(daemon)
}

/// Hands that change nothing in a cluster while another replica leads.
fn hands(leadership: &Arc<dyn Leadership>) -> Hands {
    Hands::default().with_clients(Clients::gated(terms::gate(Arc::clone(leadership))))
}

/// What it takes to keep Secrets, where the policy has a key.
async fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    let Some(path) = &config.daemon.keep_key_file else { return Ok(Keyring::default()) };
    let named = || format!("`keep_key_file`: {}", path.display());
    let key = SecretFile::new(path.clone()).read().await.with_context(named)?;
    let vault = Vault::new(key.expose_secret()).with_context(named)?;
    Ok(Keyring::new(Some(Arc::new(vault))))
}

fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

async fn named(name: &'static str, duty: impl Future<Output = ()>) -> &'static str {
    duty.await;
    name
}

async fn drain(
    store: Store,
    receivers: watch::Receiver<Receivers>,
    clocks: Clocks,
    turns: Turns,
    stop: CancellationToken,
) {
    notify::drain(&store, receivers, clocks, turns, stop).await;
}

/// What the journal says of every workload that it knows, and of which workloads its records can't be followed: one whose
/// past is lost must not take the others' watch from them.
async fn fold(store: &Store) -> anyhow::Result<(Vec<(WorkloadId, WorkloadState)>, BTreeMap<WorkloadId, String>)> {
    let folded = store.reader().fold().await.context("the journal can't be read")?;
    let (mut states, mut damaged) = (Vec::new(), BTreeMap::new());
    for (id, state) in folded {
        match state {
            Ok(state) => states.push((id, state)),
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(workload = %id, why, "its records can't be followed: it is not watched, unless it is already");
                damaged.insert(id, why);
            }
        }
    }
    Ok((states, damaged))
}

fn fleet(config: &Config, states: Vec<(WorkloadId, WorkloadState)>, damaged: &BTreeMap<WorkloadId, String>) -> Fleet {
    let mut states: BTreeMap<WorkloadId, WorkloadState> = states.into_iter().collect();
    let mut fleet = Fleet::default();
    for (id, workload) in config.workloads.iter().filter(|(id, _)| !damaged.contains_key(id)) {
        fleet.add(Arc::clone(&workload.policy), states.remove(id).unwrap_or_default());
    }
    // Those that left the policy count in the brakes over all.
    states.iter().for_each(|(id, state)| fleet.count(id, state));
    fleet
}

fn receivers_of(config: &Config) -> Receivers {
    Arc::new(config.receivers.clone())
}

impl Daemon {
    fn spawn_housekeeping(&mut self) {
        let (gauges, pruning) = (self.loops.watch("gauges", LOOP_PATIENCE), self.loops.watch("pruning", WORK_PATIENCE));
        let mut watched = vec![self.engine_duty(), self.journal_duty(), self.looks_duty()];
        watched.extend(std::mem::take(&mut self.loops).duties());
        let (notifier, stop) = (Arc::clone(&self.notifier), self.stop.clone());
        self.duties.spawn(async move {
            notifier.watch(watched, stop.clone()).await;
            // Without a watchdog there is nothing to feed; the duty is then to wait.
            stop.cancelled().await;
            "watchdog"
        });
        self.duties.spawn(named("gauges", self.gauges(gauges)));
        self.duties.spawn(named("pruning", self.pruning(pruning)));
    }

    fn engine_duty(&self) -> Duty {
        let engine = self.engine.clone();
        Duty::new("engine", move || {
            let engine = engine.clone();
            async move { engine.ping().await.is_ok() }
        })
    }

    fn journal_duty(&self) -> Duty {
        let store = self.store.clone();
        Duty::new("journal", move || {
            let store = store.clone();
            async move { store.outbox().await.is_ok() }
        })
    }

    fn looks_duty(&self) -> Duty {
        let observers = Arc::clone(&self.observers);
        Duty::new("looks", move || {
            let moving = observers.stalled().is_none();
            async move { moving }
        })
    }

    fn gauges(&self, turns: Turns) -> impl Future<Output = ()> + use<> {
        let (engine, store) = (self.engine.clone(), self.store.clone());
        let (metrics, clock, stop) = (Arc::clone(&self.metrics), self.clock, self.stop.clone());
        let work = async move {
            let mut round = tokio::time::interval(GAUGE_INTERVAL);
            loop {
                round.tick().await;
                turns.note();
                metrics.set_clock_drift(clock.drift_millis() as f64 / 1000.0);
                if let Ok(views) = engine.list().await {
                    metrics.set_workloads(&views);
                }
                if let Ok(outbox) = store.outbox().await {
                    metrics.set_outbox(outbox_level(&outbox, clock.now()));
                }
            }
        };
        async move {
            stop.run_until_cancelled(work).await;
        }
    }

    fn pruning(&self, turns: Turns) -> impl Future<Output = ()> + use<> {
        let (store, clock, stop) = (self.store.clone(), self.clock, self.stop.clone());
        let work = async move {
            let mut round = tokio::time::interval(PRUNE_INTERVAL);
            loop {
                turns.while_waiting(round.tick()).await;
                // Whether the journal answers at all is asked elsewhere: there may be much to prune.
                match turns.while_waiting(store.prune(clock.now() - RETENTION)).await {
                    Ok(pruned) => tracing::debug!(?pruned, "old records pruned"),
                    Err(error) => tracing::warn!(%error, "old records could not be pruned"),
                }
            }
        };
        async move {
            stop.run_until_cancelled(work).await;
        }
    }

    /// What was seen is kept while the engine answers and there is where to keep it. Then everything else at once, and the
    /// lead given back as soon as nothing more is written.
    async fn take_apart(mut self) {
        let limit = if self.is_one_of_several { HANDOVER_LIMIT } else { KEEP_LIMIT };
        if !self.metrics.is_journal_broken() {
            self.keeper.finish(limit).await;
        }
        self.stop.cancel();
        let all = async {
            let mut leading = LEADING.to_vec();
            let duties = async {
                while let Some(ended) = self.duties.join_next().await {
                    leading.retain(|duty| ended.as_ref().ok() != Some(duty));
                    // A daemon that has no other beside it has no such duty as the last of them.
                    if leading.is_empty() {
                        self.resign.cancel();
                    }
                }
            };
            tokio::join!(self.observers.shutdown(), duties);
        };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!(limit = ?STOP_LIMIT, "not everything stopped in time");
        }
        tracing::info!("stopped");
    }
}

fn outbox_level(outbox: &crate::store::OutboxStats, now: Timestamp) -> telemetry::OutboxLevel {
    let oldest = outbox.oldest.map_or(Span::ZERO, |oldest| now.since(oldest));
    telemetry::OutboxLevel { waiting: outbox.waiting, parked: outbox.parked, oldest_seconds: oldest.as_secs_f64() }
}

/// What is to be taken in.
enum News {
    /// The policy may say something else.
    Policy,
    /// The cluster names other workloads.
    Selection,
}
