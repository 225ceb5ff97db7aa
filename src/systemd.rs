//! What the service manager wants to know: that the daemon is ready, what it does, and that it still makes progress.
//!
//! The protocol is that of sd_notify(3): datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names. The
//! watchdog is fed only while every [`Duty`] answers: a process that is up with one of its loops stuck is worse than one
//! that is down, since nobody notices, so the service manager is left to end it and to start it anew.

use std::ffi::{OsStr, OsString};
use std::future::{Future, ready};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Longest status line, in bytes: it is one line of `systemctl status`.
const MAX_STATUS: usize = 512;

/// Shortest time between two rounds of the watchdog, whatever `WATCHDOG_USEC` asks for.
const MIN_ROUND: Duration = Duration::from_millis(1);

/// The way to the service manager, or to nowhere where none started the daemon.
///
/// A message that can't be sent is logged and forgotten: the daemon's work does not depend on being heard.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// What was last said of the work, to be said again after trouble.
    status: Mutex<String>,
}

/// Why the service manager can't be told anything.
#[derive(Debug, thiserror::Error)]
#[error("no way to the service manager at NOTIFY_SOCKET={address:?}")]
pub struct Unreachable {
    address: OsString,
    source: io::Error,
}

impl Notifier {
    /// Takes the way from the environment, which is passed in: `NOTIFY_SOCKET` (a path, or an abstract name after `@`),
    /// `WATCHDOG_USEC` (microseconds), and `WATCHDOG_PID` (the process that is meant; `pid` is this one).
    ///
    /// # Errors
    ///
    /// Where there is a socket by name that takes no connection.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Result<Self, Unreachable> {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = connect(&address).map_err(|source| Unreachable { address, source })?;
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| meant && *usec > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(socket), watchdog, status: Mutex::default() })
    }

    /// The time within which the service manager wants a sign of life; none: it does not watch.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The daemon does its work; `status` says which.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&self.keep(status))]);
    }

    /// What the daemon does, in one line for people.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&self.keep(status))]);
    }

    /// The policy is read anew. [`Notifier::ready`] follows, whether the new one was taken or not.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager is not told of the reload"),
        }
    }

    /// The daemon is about to end; `status` says why.
    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Asks every duty for progress twice in each watchdog period, and feeds the watchdog when all of them have answered
    /// within a quarter of it. Runs until `stop`; returns at once where no watchdog is set.
    pub async fn watch(&self, duties: Vec<Duty>, stop: CancellationToken) {
        let Some(period) = self.watchdog else { return };
        let mut round = interval((period / 2).max(MIN_ROUND));
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stuck = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = round.tick() => {}
            }
            let now_stuck = stuck_duties(&duties, period / 4).await;
            if now_stuck.is_empty() {
                self.send(&[NotifyState::Watchdog]);
            }
            if now_stuck != stuck {
                self.tell(&now_stuck, period);
                stuck = now_stuck;
            }
        }
    }

    fn tell(&self, stuck: &[&'static str], period: Duration) {
        if stuck.is_empty() {
            tracing::info!("every duty makes progress again");
            let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.send(&[NotifyState::Status(&status)]);
        } else {
            let duties = stuck.join(", ");
            tracing::error!(duties, ?period, "no progress; the watchdog is not fed");
            self.send(&[NotifyState::Status(&one_line(&format!("no progress: {duties}")))]);
        }
    }

    fn keep(&self, status: &str) -> String {
        let line = one_line(status);
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&line);
        line
    }

    fn send(&self, state: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let lines: Vec<String> = state.iter().map(ToString::to_string).collect();
        if let Err(error) = socket.send(lines.join("\n").as_bytes()) {
            tracing::warn!(%error, message = lines[0], "the service manager is not told");
        }
    }
}

/// Something that must go on for the daemon to be of use.
pub struct Duty {
    name: &'static str,
    progress: Box<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>,
}

impl Duty {
    /// A duty that is asked by `progress`: true when it moves. An answer that does not come in time counts as no, so a
    /// question that goes through the duty's own loop is the best one.
    pub fn new<F, A>(name: &'static str, progress: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        Self { name, progress: Box::new(move || Box::pin(progress())) }
    }

    /// A duty whose loop counts its turns: it moves unless that count has stood still for longer than `patience`.
    pub fn of_loop(name: &'static str, turns: impl Fn() -> u64 + Send + Sync + 'static, patience: Duration) -> Self {
        let seen = Mutex::new((turns(), Instant::now()));
        Self::new(name, move || {
            let (now, turned) = (Instant::now(), turns());
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.0 != turned {
                *seen = (turned, now);
            }
            ready(now.duration_since(seen.1) <= patience)
        })
    }
}

impl std::fmt::Debug for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Duty").field(&self.name).finish()
    }
}

async fn stuck_duties(duties: &[Duty], patience: Duration) -> Vec<&'static str> {
    let asked = duties.iter().map(|duty| async {
        let moves = timeout(patience, (duty.progress)()).await.unwrap_or(false);
        (!moves).then_some(duty.name)
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Never waits: where the service manager does not read, a message is lost and the daemon goes on.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().split_first() {
        Some((b'@', name)) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        Some(_) | None => socket.connect(address)?,
    }
    Ok(socket)
}

/// A line break in a status would begin another message.
fn one_line(status: &str) -> String {
    let mut line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MAX_STATUS));
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A service manager's end of the socket.
    struct Manager {
        directory: tempfile::TempDir,
        socket: tokio::net::UnixDatagram,
    }

    impl Manager {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let socket = tokio::net::UnixDatagram::bind(directory.path().join("notify")).unwrap();
            Self { directory, socket }
        }

        fn notifier(&self, more: &[(&str, &str)]) -> Notifier {
            let mut variables: BTreeMap<String, OsString> =
                more.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
            variables.insert("NOTIFY_SOCKET".to_owned(), self.directory.path().join("notify").into());
            Notifier::from_environment(|name| variables.get(name).cloned(), 42).unwrap()
        }

        async fn hears(&self) -> String {
            let mut buffer = [0; 2048];
            let heard = timeout(Duration::from_secs(20), self.socket.recv(&mut buffer)).await;
            String::from_utf8(buffer[..heard.unwrap().unwrap()].to_vec()).unwrap()
        }

        fn hears_nothing_more(&self) {
            let error = self.socket.try_recv(&mut [0; 16]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn a_life_is_told() {
        let manager = Manager::new();
        let notifier = manager.notifier(&[]);
        notifier.ready("watching 3 workloads");
        assert_eq!(manager.hears().await, "READY=1\nSTATUS=watching 3 workloads");
        notifier.reloading();
        let text = manager.hears().await;
        let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0, "{text}");
        notifier.ready("watching 4 workloads");
        assert_eq!(manager.hears().await, "READY=1\nSTATUS=watching 4 workloads");
        notifier.status("a\nREADY=1\tb");
        assert_eq!(manager.hears().await, "STATUS=a READY=1 b");
        notifier.stopping("asked to");
        assert_eq!(manager.hears().await, "STOPPING=1\nSTATUS=asked to");
    }

    #[tokio::test]
    async fn an_abstract_socket_is_reached() {
        let name = format!("rollbackd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::from_environment(
            |variable| (variable == "NOTIFY_SOCKET").then(|| OsString::from(format!("@{name}"))),
            1,
        );
        notifier.unwrap().status("here");
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STATUS=here");
    }

    #[tokio::test]
    async fn without_a_manager_nothing_is_sent() {
        let notifier = Notifier::from_environment(|_| None, 1).unwrap();
        assert_eq!(notifier.watchdog(), None);
        notifier.ready("alone");
        notifier.watch(vec![Duty::new("a", || async { false })], CancellationToken::new()).await;
        let missing = Notifier::from_environment(|_| Some("/no/such/socket".into()), 1).unwrap_err();
        assert_eq!(missing.to_string(), "no way to the service manager at NOTIFY_SOCKET=\"/no/such/socket\"");
    }

    #[tokio::test]
    async fn a_loop_is_stuck_once_it_has_not_turned_for_too_long() {
        let turns = Arc::new(AtomicU64::new(0));
        let of_loop = |patience| {
            let turns = Arc::clone(&turns);
            Duty::of_loop("outbox", move || turns.load(Ordering::Relaxed), patience)
        };
        let (patient, hasty) = (of_loop(Duration::from_secs(3600)), of_loop(Duration::ZERO));
        let stuck = async |duty| stuck_duties(std::slice::from_ref(duty), Duration::from_secs(20)).await;
        assert_eq!(stuck(&hasty).await, ["outbox"]);
        turns.fetch_add(1, Ordering::Relaxed);
        assert_eq!(stuck(&hasty).await, [""; 0]);
        assert_eq!(stuck(&hasty).await, ["outbox"]);
        assert_eq!(stuck(&patient).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_watchdog_is_the_right_process_s() {
        let manager = Manager::new();
        for (more, expected) in [
            (&[("WATCHDOG_USEC", "30000000")][..], Some(30)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "42")], Some(30)),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "43")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(manager.notifier(more).watchdog(), expected.map(Duration::from_secs), "{more:?}");
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_every_duty_moves() {
        let manager = Manager::new();
        let notifier = manager.notifier(&[("WATCHDOG_USEC", "40000")]);
        notifier.ready("watching");
        assert_eq!(manager.hears().await, "READY=1\nSTATUS=watching");
        let moves = Arc::new(AtomicBool::new(true));
        let answer = Arc::clone(&moves);
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let duties = vec![
            Duty::new("engine", || async { true }),
            Duty::new("journal", move || {
                let moves = answer.load(Ordering::SeqCst);
                ask.send(moves).unwrap();
                async move { if moves { true } else { std::future::pending().await } }
            }),
        ];
        let stop = CancellationToken::new();
        let watch = tokio::spawn({
            let stop = stop.clone();
            async move { notifier.watch(duties, stop).await }
        });
        assert_eq!(manager.hears().await, "WATCHDOG=1");
        assert_eq!(manager.hears().await, "WATCHDOG=1");
        moves.store(false, Ordering::SeqCst);
        let mut heard = manager.hears().await;
        while heard == "WATCHDOG=1" {
            heard = manager.hears().await;
        }
        assert_eq!(heard, "STATUS=no progress: journal");
        // Several rounds later there is still no sign of life.
        for _ in 0..4 {
            while asked.recv().await.unwrap() {}
        }
        manager.hears_nothing_more();
        moves.store(true, Ordering::SeqCst);
        assert_eq!(manager.hears().await, "WATCHDOG=1");
        assert_eq!(manager.hears().await, "STATUS=watching");
        stop.cancel();
        watch.await.unwrap();
    }
}
