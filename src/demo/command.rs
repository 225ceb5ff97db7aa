//! The demo's part of the command line: `rollbackd demo`, and the hidden commands that its processes are.
#![allow(clippy::print_stderr)]

use std::future::Future;
use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::app::{self, AppOptions};
use super::control::{self, ControlOptions};
use super::teller::Teller;
use super::{Fault, story};
use crate::domain::policy::Strategy;

/// What is shown.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How the bad release is taken back
    #[arg(long, value_enum, default_value_t = StrategyArg::Rolling)]
    pub strategy: StrategyArg,
    /// What is wrong with the bad release
    #[arg(long, value_enum, default_value_t = Fault::Errors)]
    pub fault: Fault,
    /// One JSON object a line instead of a story
    #[arg(long)]
    pub json: bool,
    /// Keep everything running at the end, to look around
    #[arg(long)]
    pub keep: bool,
}

/// A strategy, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyArg {
    /// Everything at once
    Direct,
    /// One instance at a time
    Rolling,
    /// Traffic moves back to the colour that still runs
    BlueGreen,
    /// The canary goes; stable keeps serving
    Canary,
}

impl From<StrategyArg> for Strategy {
    fn from(strategy: StrategyArg) -> Strategy {
        match strategy {
            StrategyArg::Direct => Strategy::Direct,
            StrategyArg::Rolling => Strategy::Rolling,
            StrategyArg::BlueGreen => Strategy::BlueGreen,
            StrategyArg::Canary => Strategy::Canary,
        }
    }
}

/// The processes of the demo's world.
#[derive(Debug, Clone, Subcommand)]
pub enum StageCommand {
    /// The demo's service
    #[command(hide = true)]
    DemoApp(AppOptions),
    /// The demo's deployment tool
    #[command(hide = true)]
    DemoCtl(ControlOptions),
}

/// Tells the story. The exit code is 0 only if the service is in fact well again.
#[must_use]
pub fn demo(args: &DemoArgs) -> u8 {
    let teller = Teller::new(args.json);
    let restored = block_on(async {
        let (ending, world) = tokio::select! {
            told = story::tell(args, &teller) => told?,
            told = told_to_stop() => return told.and_then(|()| Err(anyhow::anyhow!("interrupted"))),
        };
        let kept = args.keep.then(|| world.url());
        if args.json {
            teller.object(&story::last_line(args, &ending, kept));
        } else if ending.restored {
            teller.last_word("The service is well again, by its own answers.");
        } else {
            let wrong = ending.wrong.as_deref().unwrap_or("no such alert came");
            teller.last_word(&format!("The service was not restored: {wrong}"));
        }
        if let Some(url) = kept {
            teller.scene(&format!("kept: the daemon answers at {url}; Ctrl-C ends it"));
            told_to_stop().await?;
        }
        world.take_down().await;
        Ok(ending.restored)
    });
    match restored {
        Ok(restored) => u8::from(!restored),
        Err(error) => {
            eprintln!("rollbackd: {error:#}");
            1
        }
    }
}

/// Runs one of the demo's processes.
#[must_use]
pub fn stage(command: StageCommand) -> u8 {
    let outcome = block_on(async {
        match command {
            StageCommand::DemoApp(options) => app::run(options).await.map_err(anyhow::Error::from),
            StageCommand::DemoCtl(options) => {
                let answer = control::call(options).await?;
                std::io::stdout().write_all(answer.as_bytes()).context("the answer can't be written")
            }
        }
    });
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("rollbackd: {error:#}");
            1
        }
    }
}

/// Until the terminal, the shell or a supervisor says so; everything that the demo started is then taken down.
async fn told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let on = |kind| signal(kind).context("signals can't be handled");
    let (mut interrupt, mut terminate, mut hang_up) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(work)
}
