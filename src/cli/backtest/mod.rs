//! `rollbackd backtest`: recorded history through the same judgement, and what it would have decided.

mod cases;
mod explain;
mod plot;
mod progress;
mod server;
mod sweep;
mod table;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use super::{NO, USAGE, YES, print};
use crate::config::model::Config;
use crate::config::{self, Overrides};
use crate::replay::{Options, Recording, Schedule};
use cases::{Case, One, Work};
use progress::Progress;
use sweep::Sweep;

/// What is replayed, how it is read, and what is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct BacktestArgs {
    /// Policy file, or a directory of *.toml
    #[arg(long)]
    config: PathBuf,
    /// OpenMetrics text with time stamps, plain or gzipped; several files are one recording. A directory is a batch: each
    /// */metrics.om in it, with its meta.json
    #[arg(long, value_name = "PATH", num_args = 1.., required_unless_present = "prometheus", conflicts_with = "prometheus")]
    input: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// The label that tells the release of a series
    #[arg(long, value_name = "NAME", default_value = crate::replay::REVISION_LABEL)]
    revision_label: String,
    /// The label that tells the workload of a series; without it all series are about one
    #[arg(long, value_name = "NAME")]
    workload_label: Option<String>,
    /// A rollout that no label tells, the time as RFC 3339 writes it or in seconds; may be given several times
    #[arg(long, value_name = "TIME=REVISION")]
    rollout: Vec<String>,
    /// What the release at the beginning of a recording is taken for: known good, or only once it was observed healthy
    #[arg(long, value_enum, default_value_t = KnownGood::First)]
    known_good: KnownGood,
    /// Judge the same points again with ten settings from end to end: for=1m..10m or threshold=5%..20%
    #[arg(long, value_name = "KEY=FROM..TO", conflicts_with = "csv")]
    sweep: Option<Sweep>,
    /// Draw each signal with threshold, breaches and firings: a directory, or a .html file for one recording
    #[arg(long, value_name = "PATH")]
    plot: Option<PathBuf>,
    /// Replay up to this moment only, and print why things are as they are then, as `rollbackd explain` does of now: each
    /// signal, each guard, what would have to change. The time as RFC 3339 writes it or in seconds
    #[arg(long, value_name = "TIME", conflicts_with_all = ["sweep", "plot", "csv"])]
    explain: Option<String>,
    /// Print one line a decision: scenario,workload,trigger,fired_at,decision,reason
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// A Prometheus server, or what speaks its API, in place of files.
#[derive(Debug, Clone, Args)]
struct ServerArgs {
    /// Take the recording from this server instead of files
    #[arg(long, value_name = "URL", requires_all = ["from", "to"])]
    prometheus: Option<String>,
    /// Where the recording begins, as RFC 3339 writes it or in seconds
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    from: Option<String>,
    /// Where it ends
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    to: Option<String>,
    /// Time between two evaluations of an expression; the shortest interval of the policy by default
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    step: Option<String>,
    /// Matchers that every series must fit besides, as in namespace="prod",job="api"
    #[arg(long = "match", value_name = "MATCHERS", requires = "prometheus")]
    matchers: Option<String>,
    /// File with a bearer token for the server
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    prometheus_token_file: Option<PathBuf>,
}

impl fmt::Display for ServerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--prometheus {}", self.prometheus.as_deref().unwrap_or_default())?;
        self.matchers.as_ref().map_or(Ok(()), |matchers| write!(f, " --match {matchers}"))
    }
}

/// What the first release of a recording is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KnownGood {
    /// Known good
    First,
    /// Good once it was observed healthy for as long as the policy asks
    Observed,
}

pub(crate) fn backtest(args: &BacktestArgs) -> u8 {
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            print::complain(&error);
            USAGE
        }
    }
}

fn run(args: &BacktestArgs) -> anyhow::Result<u8> {
    let config = config::load(&args.config, Overrides::default()).map_err(|error| anyhow!(error))?;
    anyhow::ensure!(!config.workloads.is_empty(), "{} has no workload", args.config.display());
    let cases = cases::find(&args.input)?;
    if let Some(path) = &args.plot {
        plot::each_has_its_page(path, &cases)?;
    }
    let work = Work {
        config: &config,
        options: options(args)?,
        sweep: args.sweep.clone(),
        plot: args.plot.clone(),
        cases: cases.len().max(1),
    };
    if let Some(time) = &args.explain {
        let at = server::moment("--explain", Some(time))?;
        let one = |work: &Work<'_>, scenario: &str, options: &Options, recording: &Recording| {
            explain::one(work, scenario, options, recording, at)
        };
        let (explained, is_whole) = told(of_each(args, &work, &cases, &one)?);
        explain::tell(&explained, args.json);
        return Ok(if is_whole { YES } else { USAGE });
    }
    let (results, is_whole) = told(of_each(args, &work, &cases, &cases::replay_one)?);
    if results.is_empty() {
        return Ok(USAGE);
    }
    if args.csv {
        print::text(&table::csv(&results));
    } else if args.json {
        print::json(&results);
    } else {
        print::text(&print::clean(&table::text(&results)));
    }
    Ok(match results.iter().any(|result| result.outcome.fired()) {
        _ if !is_whole => USAGE,
        true => NO,
        false => YES,
    })
}

/// What `one` makes of the server's recording, or of each case's.
fn of_each<T: Send>(
    args: &BacktestArgs,
    work: &Work<'_>,
    cases: &[Case],
    one: One<'_, T>,
) -> anyhow::Result<Vec<anyhow::Result<T>>> {
    if args.server.prometheus.is_none() {
        return Ok(cases::each(work, cases, &Progress::of(cases), one));
    }
    let recording = server::record(&args.server, work.config, &Progress::of_whole())?;
    let named = || args.server.to_string();
    Ok(vec![one(work, "prometheus", &work.options, &recording).with_context(named)])
}

/// Those that came to something, and whether all did; of the others it is told why not.
fn told<T>(results: Vec<anyhow::Result<T>>) -> (Vec<T>, bool) {
    let all = results.len();
    let complain = |error: &anyhow::Error| print::complain(error);
    let read: Vec<T> = results.into_iter().filter_map(|result| result.inspect_err(complain).ok()).collect();
    let is_whole = read.len() == all;
    (read, is_whole)
}

fn options(args: &BacktestArgs) -> anyhow::Result<Options> {
    let mut schedule = Schedule::default();
    for rollout in &args.rollout {
        schedule.add(rollout).map_err(|why| anyhow!(why)).with_context(|| format!("--rollout {rollout:?}"))?;
    }
    Ok(Options {
        revision_label: args.revision_label.clone(),
        workload_label: args.workload_label.clone(),
        schedule,
        first_is_good: args.known_good == KnownGood::First,
    })
}
