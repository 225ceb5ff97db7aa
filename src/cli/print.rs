//! The one place that writes to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::client::Failure;
use super::{NO, USAGE, YES};

/// How long a thread without work is kept: for good.
const KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Runs a command's future on a runtime of its own, prints what went wrong with every cause, and gives the exit code.
pub(crate) fn finish(work: impl Future<Output = Result<u8, Failure>>) -> u8 {
    let outcome = match runtime().context("no runtime") {
        Ok(runtime) => {
            let outcome = runtime.block_on(work);
            // A thread that a file system holds up is not waited for.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure { code: NO, error }),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure { code, error }) => {
            complain(&error);
            code
        }
    }
}

/// One thread, and besides those that wait for files and names. They are kept: where the system grants no more of them later,
/// what is left to them waits for one that is there, and without any the runtime would panic.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().thread_keep_alive(KEPT).build()
}

/// Prints an error and its causes to standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("rollbackd: {error:#}");
}

/// Prints to standard error what is most likely not meant.
pub(crate) fn warn(what: &str) {
    eprintln!("rollbackd: warning: {}", clean(what));
}

/// Columns of the terminal that standard output is; none where it is something else.
pub(crate) fn width() -> Option<u16> {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out))?.ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Prints a line. A reader that has gone away is no error.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

/// Prints text as it is.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}");
    let _ = out.flush();
}

/// Prints to standard error as it is.
pub(crate) fn error_text(text: &str) {
    eprint!("{text}");
}

/// Prints a value as JSON, indented.
pub(crate) fn json(value: &impl Serialize) -> u8 {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            line(&text);
            YES
        }
        Err(error) => {
            complain(&anyhow::anyhow!(error).context("the answer can't be written as JSON"));
            USAGE
        }
    }
}

/// Text from outside without anything that a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread::sleep;

    use super::*;

    #[test]
    fn a_thread_that_was_had_once_is_kept() {
        let runtime = runtime().unwrap();
        let asked = tokio::task::spawn_blocking;
        let own = || std::fs::read_link("/proc/thread-self");
        let thread = runtime.block_on(async { asked(own).await.unwrap().unwrap() });
        // A runtime's own patience is 10 s.
        sleep(Duration::from_secs(11));
        assert!(Path::new("/proc").join(thread).exists());
    }
}
