//! Keeps the demo's instances running, as a service manager would: starts them from what their link names, starts them
//! again when they end, and counts deaths for memory where the kernel would.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app::ReleaseFile;

/// Time between an instance's end and its next start.
const RESTART_DELAY: Duration = Duration::from_millis(300);
/// How long an instance may take to end when told to.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Orders that may wait for one instance.
const MAX_ORDERS: usize = 8;
/// The signal by which a process ends whose allocation fails.
const ABORT: i32 = 6;

/// One instance, before it runs.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    /// The symlink that names its release.
    pub(super) link: PathBuf,
    pub(super) listen: SocketAddr,
    /// The directory where its `memory.events` is kept.
    pub(super) cgroup: PathBuf,
}

/// What an instance can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// End, if it runs, and start from what the link names now.
    Restart,
    /// End, and stay so.
    Stop,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("there is no instance {0:?}")]
    NoSuchInstance(String),
    #[error("{0} could not be started")]
    Start(String, #[source] io::Error),
    #[error("the supervisor has ended")]
    Gone,
}

type Reply = oneshot::Sender<io::Result<()>>;

/// All instances of the demo.
#[derive(Debug)]
pub(super) struct Supervisor {
    instances: BTreeMap<String, mpsc::Sender<(Order, Reply)>>,
    fault_begins: Arc<Mutex<Option<Instant>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Supervisor {
    /// Watches over instances, none of which runs before it is told to restart. `program` is this binary.
    pub(super) fn new(program: &Path, specs: Vec<Spec>) -> io::Result<Self> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let fault_begins = Arc::new(Mutex::new(None));
        let mut instances = BTreeMap::new();
        for spec in specs {
            let (sender, orders) = mpsc::channel(MAX_ORDERS);
            instances.insert(spec.name.clone(), sender);
            let instance =
                Instance { program: program.to_owned(), fault_begins: Arc::clone(&fault_begins), oom_kills: 0, spec };
            instance.note_oom_kills()?;
            tasks.spawn(instance.run(orders, stop.clone()));
        }
        tasks.close();
        Ok(Self { instances, fault_begins, stop, tasks })
    }

    /// Says when the bad release's fault begins; what is started later is told how long that is.
    pub(super) fn set_fault(&self, begins: Instant) {
        *self.fault_begins.lock().unwrap_or_else(PoisonError::into_inner) = Some(begins);
    }

    /// Carries out an order and waits until it is done.
    pub(super) async fn order(&self, instance: &str, order: Order) -> Result<(), OrderError> {
        let sender = self.instances.get(instance).ok_or_else(|| OrderError::NoSuchInstance(instance.to_owned()))?;
        let (reply, done) = oneshot::channel();
        sender.send((order, reply)).await.map_err(|_| OrderError::Gone)?;
        match done.await {
            Ok(result) => result.map_err(|error| OrderError::Start(instance.to_owned(), error)),
            Err(_) => Err(OrderError::Gone),
        }
    }

    /// Ends every instance.
    pub(super) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Instance {
    program: PathBuf,
    fault_begins: Arc<Mutex<Option<Instant>>>,
    oom_kills: u64,
    spec: Spec,
}

impl Instance {
    async fn run(mut self, mut orders: mpsc::Receiver<(Order, Reply)>, stop: CancellationToken) {
        let mut child: Option<Child> = None;
        let mut start_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                order = orders.recv() => {
                    let Some((order, reply)) = order else { break };
                    end(child.take()).await;
                    start_at = None;
                    let result = match order {
                        Order::Restart => self.start().map(|started| child = Some(started)),
                        Order::Stop => Ok(()),
                    };
                    // Whoever asked may have gone away meanwhile.
                    let _heard = reply.send(result);
                }
                status = ended(&mut child) => {
                    child = None;
                    self.count_death(status);
                    start_at = Some(Instant::now() + RESTART_DELAY);
                }
                () = due(start_at) => match self.start() {
                    Ok(started) => (child, start_at) = (Some(started), None),
                    Err(_) => start_at = Some(Instant::now() + RESTART_DELAY),
                }
            }
        }
        end(child).await;
    }

    fn start(&self) -> io::Result<Child> {
        let begins = *self.fault_begins.lock().unwrap_or_else(PoisonError::into_inner);
        let fault_in = begins.map_or(Duration::MAX, |begins| begins.saturating_duration_since(Instant::now()));
        let fault_in = u64::try_from(fault_in.as_millis()).unwrap_or(u64::from(u32::MAX));
        Command::new(&self.program)
            .arg("demo-app")
            .args(["--listen", &self.spec.listen.to_string()])
            .args(["--fault-in", &fault_in.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .arg("--release")
            .arg(self.spec.link.join(ReleaseFile::NAME))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }

    /// The service aborts for one reason only, an allocation that failed; the kernel counts such a death in its cgroup.
    fn count_death(&mut self, status: Option<ExitStatus>) {
        if status.and_then(|status| status.signal()) == Some(ABORT) {
            self.oom_kills += 1;
            if let Err(error) = self.note_oom_kills() {
                tracing::warn!(instance = self.spec.name, %error, "memory.events could not be written");
            }
        }
    }

    /// Written in the kernel's format, and all at once, as the kernel shows it.
    fn note_oom_kills(&self) -> io::Result<()> {
        let count = self.oom_kills;
        std::fs::create_dir_all(&self.spec.cgroup)?;
        let (file, fresh) = (self.spec.cgroup.join("memory.events"), self.spec.cgroup.join(".memory.events.new"));
        std::fs::write(&fresh, format!("low 0\nhigh 0\nmax 0\noom {count}\noom_kill {count}\noom_group_kill 0\n"))?;
        std::fs::rename(fresh, file)
    }
}

/// Waits for a child's end; for ever where there is none.
async fn ended(child: &mut Option<Child>) -> Option<ExitStatus> {
    match child {
        Some(child) => child.wait().await.ok(),
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn end(child: Option<Child>) {
    let Some(mut child) = child else { return };
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself already.
        let _gone = rustix::process::kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_GRACE, child.wait()).await.is_err() {
        let _gone = child.kill().await;
    }
}
