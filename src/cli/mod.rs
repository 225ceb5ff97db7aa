//! The command line: what each command takes, what it prints, and how it exits.
//!
//! Exit codes: 0 yes or done; 1 no or failed; 2 usage or unreadable configuration; 3 no daemon answers.

mod again;
mod ask;
mod backtest;
mod check;
mod client;
mod inspect;
mod page;
mod print;
mod run;
mod show;
mod table;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::domain::policy::Mode;
use crate::http::MOST_INCIDENTS;

/// Yes, or done.
pub(crate) const YES: u8 = 0;
/// No, or failed.
pub(crate) const NO: u8 = 1;
/// Wrong usage, or a configuration that can't be read.
pub(crate) const USAGE: u8 = 2;
/// No daemon answers.
pub(crate) const NO_DAEMON: u8 = 3;

/// Watches a release, takes a bad one back, and proves that the service is well again.
#[derive(Debug, Parser)]
#[command(name = "rollbackd", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run(RunArgs),
    /// Check policy files without running anything: every error at once
    Check {
        /// Files or directories of *.toml
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        against: check::Against,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Replay recorded history through the same judgement: when would it have acted, and why not
    Backtest(Box<backtest::BacktestArgs>),
    /// Run unit tests of policies: series, rollouts, and what is expected when
    Test {
        /// Files of tests
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The whole story on loopback in under a minute: a bad release, noticed and taken back
    Demo(crate::demo::DemoArgs),
    /// Read an exposition page: what it offers, and what selectors match
    Inspect {
        /// `http://` or `https://` address, a file, or `-` for standard input
        source: String,
        /// A series selector in PromQL syntax; may be given several times
        #[arg(long = "select", value_name = "SELECTOR")]
        select: Vec<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What a rollback would do now, step by step, and what would stop it
    Plan {
        /// The workload
        workload: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Roll back by hand, through the running daemon and its guards
    Rollback {
        /// The workload
        workload: String,
        /// Why; goes into the record
        #[arg(long)]
        reason: String,
        /// The release to go back to; the last known good one by default
        #[arg(long, value_name = "REVISION")]
        to: Option<String>,
        /// Guards to skip, by name
        #[arg(long, value_name = "GUARD", value_delimiter = ',')]
        force: Vec<String>,
        /// Return at once instead of waiting for the end
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// How the workloads are now
    Status {
        /// Only this workload, in detail
        workload: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Past incidents
    History {
        /// Only of this workload
        workload: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_INCIDENTS)))]
        limit: u32,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Why things are as they are, inaction included
    ///
    /// Of a workload it is told how it is now, of an incident how it was detected and went on. Any moment of the past is
    /// explained from recorded samples by the same judgement:
    ///
    /// rollbackd backtest --explain TIME
    Explain {
        /// A workload, or an incident
        subject: String,
        /// Make the incident's decisions again from its records, and say whether they are the same
        #[arg(long)]
        replay: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// An incident's report
    Report {
        /// The incident
        incident: String,
        /// How it is written
        #[arg(long, value_enum, default_value_t = ReportFormat::Md)]
        format: ReportFormat,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Stop all changes to a workload
    Pause {
        /// The workload
        workload: String,
        /// Why; goes into the record
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Lift a pause
    Resume {
        /// The workload
        workload: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Say yes to an incident that waits for it
    Approve {
        /// The incident
        incident: String,
        /// The release to go back to, as the alert names it: refused where it would go elsewhere by now
        #[arg(long, value_name = "REVISION")]
        to: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Say no to an incident, or close one that was escalated or is held in the middle of its rollback
    Reject {
        /// The incident
        incident: String,
        /// Why; goes into the record
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Report a fault that no signal shows: a breach, corrupt data
    Trigger {
        /// The workload
        workload: String,
        /// Which sort: security, data, compliance, …
        #[arg(long)]
        kind: String,
        /// Why; goes into the record
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    #[command(flatten)]
    Stage(crate::demo::StageCommand),
}

/// How the daemon is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Policy file, or a directory of *.toml
    #[arg(long, default_value = "/etc/rollbackd/rollbackd.toml")]
    pub(crate) config: PathBuf,
    /// Stricter than the configuration says; never looser
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    /// Judge and tell; never act
    Observe,
    /// Act once a human has approved
    Approve,
    /// Act
    Enforce,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Mode {
        match mode {
            ModeArg::Observe => Mode::Observe,
            ModeArg::Approve => Mode::Approve,
            ModeArg::Enforce => Mode::Enforce,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

impl From<LogFormat> for crate::telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Markdown
    Md,
    /// JSON
    Json,
    /// A page with plots
    Html,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which daemon is asked, and how its answer is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct DaemonArgs {
    /// Where the daemon answers
    #[arg(long, env = "ROLLBACKD_URL", default_value = "http://127.0.0.1:9477")]
    pub(crate) url: String,
    /// File with the bearer token, for calls that change something
    #[arg(long, env = "ROLLBACKD_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parses the command line, does what it says, and tells how it went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way as well; clap knows which stream and which code.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    ExitCode::from(dispatch(cli.command))
}

fn dispatch(command: Command) -> u8 {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check { files, against, output } => check::check(&files, &against, output.json),
        Command::Backtest(args) => backtest::backtest(&args),
        Command::Test { files, output } => test::test(&files, output.json),
        Command::Demo(args) => crate::demo::demo(&args),
        Command::Inspect { source, select, output } => inspect::inspect(&source, &select, output.json),
        Command::Plan { workload, daemon } => show::plan(&workload, &daemon),
        Command::Rollback { workload, reason, to, force, no_wait, daemon } => {
            ask::rollback(&workload, &reason, to.as_deref(), &force, no_wait, &daemon)
        }
        Command::Status { workload, daemon } => show::status(workload.as_deref(), &daemon),
        Command::History { workload, limit, daemon } => show::history(workload.as_deref(), limit, &daemon),
        Command::Explain { subject, replay: false, daemon } => show::explain(&subject, &daemon),
        Command::Explain { subject, replay: true, daemon } => again::again(&subject, &daemon),
        Command::Report { incident, format, daemon } => show::report(&incident, format, &daemon),
        Command::Pause { workload, reason, daemon } => ask::pause(&workload, reason.as_deref(), &daemon),
        Command::Resume { workload, daemon } => ask::resume(&workload, &daemon),
        Command::Approve { incident, to, daemon } => ask::approve(&incident, to.as_deref(), &daemon),
        Command::Reject { incident, reason, daemon } => ask::reject(&incident, reason.as_deref(), &daemon),
        Command::Trigger { workload, kind, reason, daemon } => ask::trigger(&workload, &kind, &reason, &daemon),
        Command::Stage(command) => crate::demo::stage(command),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
