//! `rollbackd backtest`: recorded history through the same judgement, and what it would have decided.

mod cases;
mod table;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use super::{NO, USAGE, YES, print};
use crate::config::model::Config;
use crate::config::{self, Overrides};
use crate::replay::{Options, Schedule};

/// What is replayed, how it is read, and what is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct BacktestArgs {
    /// Policy file, or a directory of *.toml
    #[arg(long)]
    config: PathBuf,
    /// OpenMetrics text with time stamps, plain or gzipped; several files are one recording. A directory is a batch: each
    /// */metrics.om in it, with its meta.json
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
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
    /// Print one line a decision: scenario,workload,trigger,fired_at,decision,reason
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
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
    let options = options(args)?;
    let cases = cases::find(&args.input)?;
    let results = cases::replay_all(&config, &cases, &options)?;
    if args.csv {
        print::text(&table::csv(&results));
    } else if args.json {
        print::json(&results);
    } else {
        print::text(&print::clean(&table::text(&results)));
    }
    Ok(if results.iter().any(|result| result.outcome.fired()) { NO } else { YES })
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
