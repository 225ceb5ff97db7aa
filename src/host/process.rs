//! Programs run without a shell, in a process group of their own, with a bound on their time and output.
//!
//! A program may hang, fork, flood and lie. It is waited for by its exit, not by the end of its output, so that a
//! daemon which it leaves behind and which keeps the pipe can't hold up the caller.

mod capture;
mod hunt;
mod runs;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout};

use self::capture::Capture;
use self::runs::OnFile;
use super::text;

/// Most output that is kept of one run, in bytes: half from its beginning, half from its end.
pub const MAX_OUTPUT: usize = 64 * 1024;
/// Of that, what is kept of the complaints where they are kept apart from the answer.
const MAX_COMPLAINT: usize = 8 * 1024;
/// How long a program may take to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long a killed program may take to be gone; one in uninterruptible sleep is left to the system.
const REAP: Duration = Duration::from_secs(1);
/// Where programs are looked for when the daemon itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is run, and within which bounds.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// Program and arguments, passed on as they are.
    pub argv: &'a [String],
    /// Variables beside `PATH`, `HOME` and `LANG`; nothing else of the daemon's environment is passed on.
    pub variables: Vec<(&'static str, String)>,
    /// Working directory; the root directory where there is none.
    pub directory: Option<PathBuf>,
    /// How long it may run before its process group is told to end, and soon after is killed.
    pub limit: Duration,
    /// What becomes of processes that outlive it.
    pub leftovers: Leftovers,
}

/// What becomes of processes that outlive the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// They stay: a restart command may start the service as its child. What they print from then on is passed on to the
    /// daemon's own log.
    Stay,
    /// Those of the group are killed, and where the program did not end in its time also those that left it: nothing of a
    /// question should outlive it.
    Killed,
    /// As [`Leftovers::Killed`], and those that left the group are looked for in any case: nothing of a test should outlive
    /// it.
    Hunted,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It did not end in its time and was killed.
    TimedOut,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exit status {status}"),
            End::Signalled(signal) => write!(f, "killed by signal {signal}"),
            End::TimedOut => f.write_str("not done in its time and killed"),
        }
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// Output and errors as they came, printable, at most [`MAX_OUTPUT`] and a note of what was left out.
    pub output: String,
}

impl Run {
    /// Whether it exited with status 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// How it ended and the end of what it said, on one line of at most about `limit` bytes.
    #[must_use]
    pub fn summary(&self, limit: usize) -> String {
        summary(self.end, &self.output, limit)
    }
}

/// A finished question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub end: End,
    /// Standard output, as it came.
    pub answer: Vec<u8>,
    /// Whether the answer was longer than what is kept.
    pub cut: bool,
    /// Standard error, printable.
    pub complaint: String,
}

impl Reply {
    /// The answer, printable.
    #[must_use]
    pub fn text(&self) -> String {
        text::printable(&self.answer)
    }

    /// How it ended and the end of what it complained of, on one line.
    #[must_use]
    pub fn summary(&self, limit: usize) -> String {
        summary(self.end, &self.complaint, limit)
    }
}

fn summary(end: End, output: &str, limit: usize) -> String {
    let said = text::one_line(text::tail(output, limit));
    if said.is_empty() { end.to_string() } else { format!("{end}: {said}") }
}

/// Why a program could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to run.
    #[error("the command is empty")]
    Empty,
    /// No such program, or one that may not be executed.
    #[error("{0:?} is not an executable program, as a path or in PATH")]
    NotFound(String),
    /// The system refused.
    #[error("{program:?} could not be started")]
    System {
        /// The program.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// The error and its source on one line.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            StartError::Empty | StartError::NotFound(_) => self.to_string(),
            StartError::System { source, .. } => format!("{self}: {source}"),
        }
    }
}

/// Runs a program for its effect; output and errors come together, in their order.
///
/// # Errors
///
/// Where it could not be started. Whatever it does then is in the [`Run`].
pub async fn run(what: &Invocation<'_>) -> Result<Run, StartError> {
    let mut running = Running::new(start(what, Streams::Together)?, what)?;
    let end = running.supervise(what).await;
    Ok(Run { end, output: running.output.text() })
}

/// Runs a program for what it prints; errors are kept apart from the answer.
///
/// # Errors
///
/// As [`run`].
pub async fn ask(what: &Invocation<'_>) -> Result<Reply, StartError> {
    let mut running = Running::new(start(what, Streams::Apart)?, what)?;
    let end = running.supervise(what).await;
    Ok(Reply { end, answer: running.output.bytes(), cut: running.output.is_cut(), complaint: running.errors.text() })
}

/// The file that would be executed for a program's name: a path is taken from `directory`, a bare name from `PATH`.
///
/// # Errors
///
/// Where there is none, or it is not an executable file.
pub fn find_program(name: &str, directory: Option<&Path>) -> Result<PathBuf, StartError> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![directory.unwrap_or(Path::new("/")).join(name)]
    } else {
        std::env::split_paths(&search_path()).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).collect()
    };
    candidates
        .into_iter()
        .find(|path| is_executable(path))
        .ok_or_else(|| StartError::NotFound(text::printable(name.as_bytes())))
}

/// Ends what a daemon with the same state directory was running when it was killed: it would go on beside the step that is
/// settled anew. What programs left behind that have ended themselves stays. From here on this process's own are on file there,
/// so nobody else may use that directory. Blocks for up to two seconds where there is something to end; gives the number of
/// programs.
pub fn end_what_was_left(state_dir: &Path) -> usize {
    runs::end_those_on_file(state_dir)
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    Together,
    Apart,
}

/// Read ends of standard output and, where apart, standard error.
struct Pipes {
    output: OwnedFd,
    errors: Option<OwnedFd>,
}

/// A program that was just started.
struct Started {
    child: tokio::process::Child,
    mark: Option<String>,
    pipes: Pipes,
}

fn start(what: &Invocation<'_>, streams: Streams) -> Result<Started, StartError> {
    let (name, arguments) = what.argv.split_first().ok_or(StartError::Empty)?;
    let program = find_program(name, what.directory.as_deref())?;
    let refused = |source| StartError::System { program: text::printable(name.as_bytes()), source };
    let (output, writer) = io::pipe().map_err(refused)?;
    let (errors, error_writer) = match streams {
        Streams::Together => (None, writer.try_clone().map_err(refused)?),
        Streams::Apart => {
            let (errors, error_writer) = io::pipe().map_err(refused)?;
            (Some(OwnedFd::from(errors)), error_writer)
        }
    };
    let mark = match what.leftovers {
        Leftovers::Stay => None,
        Leftovers::Killed | Leftovers::Hunted => Some(hunt::mark()),
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .current_dir(what.directory.as_deref().unwrap_or(Path::new("/")))
        .env_clear()
        .env("PATH", search_path())
        .env("LANG", "C.UTF-8")
        .envs(what.variables.iter().map(|(key, value)| (key, value)))
        .envs(mark.iter().map(|mark| (hunt::MARK, mark)))
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(error_writer)
        .process_group(0)
        .kill_on_drop(true);
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    let child = command.spawn().map_err(refused)?;
    if let Some(pid) = child.id() {
        // The daemon's own protection from the kernel's OOM killer is none of what it starts, which may be the service itself.
        // Where it has none this is refused, or no change.
        let _lowered = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
    }
    let output = OwnedFd::from(output);
    Ok(Started { child, mark, pipes: Pipes { output, errors } })
}

/// The process group of a program that has not been waited for: killed when dropped, so that a cancelled caller leaves
/// nothing behind. While the leader is not reaped its number can't belong to anyone else.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // The group may be gone already, which is what is wanted.
            let _gone = rustix::process::kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A program under way. The group is declared first, so that it is killed before the child is let go.
struct Running {
    group: Group,
    /// A pidfd, readable once the program has exited. It is only asked whether it is readable, so that it isn't a pipe
    /// makes no difference.
    exit: Receiver,
    child: tokio::process::Child,
    /// What its children inherit, where none of them is to stay.
    mark: Option<String>,
    /// Where it is more than a question, until it has ended or is given up.
    on_file: OnFile,
    output: Capture,
    errors: Capture,
}

impl Running {
    fn new(started: Started, what: &Invocation<'_>) -> Result<Self, StartError> {
        let Started { child, mark, pipes } = started;
        let refused =
            |source: io::Error| StartError::System { program: what.argv.first().cloned().unwrap_or_default(), source };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = Group(pid);
        let pid = pid.ok_or_else(|| refused(io::ErrorKind::NotFound.into()))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|error| refused(error.into()))?;
        let on_file = match what.leftovers {
            Leftovers::Stay | Leftovers::Hunted => runs::put_on_file(pid, mark.as_deref()),
            // A question changes nothing, and many are asked.
            Leftovers::Killed => OnFile::default(),
        };
        let complaints = MAX_COMPLAINT * usize::from(pipes.errors.is_some());
        Ok(Self {
            group,
            exit: Receiver::from_owned_fd_unchecked(pidfd).map_err(refused)?,
            child,
            mark,
            on_file,
            output: Capture::new(Some(pipes.output), MAX_OUTPUT - complaints).map_err(refused)?,
            errors: Capture::new(pipes.errors, complaints).map_err(refused)?,
        })
    }

    async fn supervise(&mut self, what: &Invocation<'_>) -> End {
        let in_time = self.listen_until(Instant::now() + what.limit).await;
        if !in_time {
            self.group.signal(Signal::TERM);
            self.listen_until(Instant::now() + GRACE).await;
        }
        if !in_time || what.leftovers != Leftovers::Stay {
            self.group.signal(Signal::KILL);
        }
        if let Some(mark) = self.mark.take().filter(|_| !in_time || what.leftovers == Leftovers::Hunted) {
            let hunt = tokio::task::spawn_blocking(move || hunt::kill_marked(&mark));
            if timeout(REAP, hunt).await.is_err() {
                tracing::warn!(program = what.argv.first(), "what it left behind could not be looked for in time");
            }
        }
        let status = timeout(REAP, self.child.wait()).await;
        if matches!(status, Ok(Ok(_))) {
            self.group.0 = None;
            self.on_file = OnFile::default();
        }
        self.output.take_rest();
        self.errors.take_rest();
        if in_time && what.leftovers == Leftovers::Stay {
            self.output.leave();
            self.errors.leave();
        }
        match status {
            Ok(Ok(status)) if in_time => ended(status),
            Ok(_) | Err(_) => End::TimedOut,
        }
    }

    /// Keeps the pipes empty until the program exits or the time is over; whether it exited.
    async fn listen_until(&mut self, deadline: Instant) -> bool {
        loop {
            tokio::select! {
                ready = self.exit.readable() => return ready.is_ok(),
                () = tokio::time::sleep_until(deadline) => return false,
                () = self.output.take_some(), if self.output.is_open() => {}
                () = self.errors.take_some(), if self.errors.is_open() => {}
            }
        }
    }
}

fn ended(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Signalled(signal),
        (None, None) => End::TimedOut,
    }
}

#[cfg(test)]
mod tests;
