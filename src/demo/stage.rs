//! The demo's world set up for one strategy: the good release in service, the bad one ready to be rolled out.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::app::ReleaseFile;
use super::control::{Site, address};
use super::proxy::{Backend, Routes};
use super::supervisor::{Order, OrderError, Spec, Supervisor};
use super::traffic::Traffic;
use super::{BAD, Fault, GOOD, Tally, WORKLOAD, control, proxy};
use crate::domain::policy::Strategy;
use crate::host::release_dir;

/// How long an instance may take to answer once it is started.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Time between two looks at an instance that starts.
const START_POLL: Duration = Duration::from_millis(25);
/// Where releases are, below the service's directory.
pub(super) const RELEASES: &str = "releases";
/// The canary's share of the traffic, in tenths.
const CANARY_TENTHS: u32 = 3;

/// Why the demo could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The system refused something.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An HTTP client could not be made.
    #[error("no HTTP client")]
    Client(#[source] reqwest::Error),
    /// An instance did not come up, or an order was not carried out.
    #[error("{0}")]
    Instance(String),
}

impl StageError {
    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

impl From<OrderError> for StageError {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Start(name, source) => Self::System { what: format!("start of {name}"), source },
            OrderError::NoSuchInstance(_) | OrderError::Gone => Self::Instance(error.to_string()),
        }
    }
}

/// The demo's world.
pub struct Stage {
    pub(super) strategy: Strategy,
    fault: Fault,
    /// This binary.
    pub(super) program: PathBuf,
    /// Holds releases, links and cgroups.
    pub(super) root: PathBuf,
    pub(super) specs: Vec<Spec>,
    /// Where the control service answers.
    pub(super) control: SocketAddr,
    /// Where the proxy answers, if the strategy needs one.
    pub(super) proxy: Option<SocketAddr>,
    site: Site,
    traffic: Traffic,
    servers: TaskTracker,
    stop: CancellationToken,
}

impl Stage {
    /// Sets everything up below `dir`, which must exist, with the good release in service and traffic flowing. `program`
    /// is this binary.
    ///
    /// # Errors
    ///
    /// Where the system refuses something or an instance does not come up within 15 s.
    pub async fn start(program: &Path, strategy: Strategy, fault: Fault, dir: &Path) -> Result<Self, StageError> {
        let root = dir.canonicalize().map_err(StageError::system("looking at the directory"))?.join(WORKLOAD);
        let specs = specs(strategy, &root)?;
        write_release(&root, &ReleaseFile { version: GOOD.to_owned(), fault: None })?;
        let running = if needs_proxy(strategy) { &specs[..1] } else { &specs[..] };
        for spec in running {
            link(&spec.link, GOOD)?;
        }
        let supervisor = Supervisor::new(program, specs.clone()).map_err(StageError::system("supervision"))?;
        let routes = Arc::new(Routes::default());
        let (servers, stop) = (TaskTracker::new(), CancellationToken::new());
        let proxy = if needs_proxy(strategy) {
            routes.set(vec![backend(&specs[0], GOOD, 1)]);
            let router = proxy::router(Arc::clone(&routes)).map_err(StageError::Client)?;
            Some(serve(router, &servers, &stop).await?)
        } else {
            None
        };
        let front = match proxy {
            Some(proxy) => vec![address(proxy)],
            None => specs.iter().map(|spec| address(spec.listen)).collect(),
        };
        let site = Site {
            supervisor: Arc::new(supervisor),
            routes,
            front: front.clone(),
            client: Site::client().map_err(StageError::Client)?,
        };
        let control = serve(control::router(site.clone()), &servers, &stop).await?;
        servers.close();
        for spec in running {
            start_instance(&site, spec, GOOD).await?;
        }
        let traffic = Traffic::start(front).map_err(StageError::Client)?;
        let program = program.to_owned();
        Ok(Self { strategy, fault, program, root, specs, control, proxy, site, traffic, servers, stop })
    }

    /// Rolls the bad release out, as its strategy does; its fault begins `fault_after` now. Returns once it is in service.
    ///
    /// # Errors
    ///
    /// Where it does not come up.
    pub async fn deploy(&self, fault_after: Duration) -> Result<(), StageError> {
        self.site.supervisor.set_fault(Instant::now() + fault_after);
        write_release(&self.root, &ReleaseFile { version: BAD.to_owned(), fault: Some(self.fault) })?;
        match self.strategy {
            Strategy::Direct | Strategy::Rolling => {
                for spec in &self.specs {
                    link(&spec.link, BAD)?;
                    start_instance(&self.site, spec, BAD).await?;
                }
            }
            Strategy::BlueGreen => self.add_backend(0, 1).await?,
            Strategy::Canary => self.add_backend(10 - CANARY_TENTHS, CANARY_TENTHS).await?,
        }
        Ok(())
    }

    /// Starts the bad release beside the good one and divides the traffic.
    async fn add_backend(&self, good: u32, bad: u32) -> Result<(), StageError> {
        let [old, new] = self.specs.as_slice() else {
            return Err(StageError::Instance("two backends are needed".to_owned()));
        };
        link(&new.link, BAD)?;
        start_instance(&self.site, new, BAD).await?;
        self.site.routes.set(vec![backend(old, GOOD, good), backend(new, BAD, bad)]);
        Ok(())
    }

    /// Whether the service is well again, by its own answers and not by what anyone says: the good release is configured
    /// everywhere, and answers everywhere without an error.
    ///
    /// # Errors
    ///
    /// What is still wrong, in one line.
    pub async fn restored(&self) -> Result<(), String> {
        if self.proxy.is_some() {
            let current = self.site.routes.current().unwrap_or_default();
            if current != GOOD {
                return Err(format!("the proxy sends traffic to {current:?}"));
            }
        } else {
            for spec in &self.specs {
                let link = spec.link.strip_prefix(&self.root).unwrap_or(&spec.link);
                let release =
                    release_dir::current(&self.root, link, Path::new(RELEASES)).map_err(|fault| fault.to_string())?;
                if release.as_str() != GOOD {
                    return Err(format!("{} is at {release}", spec.name));
                }
            }
        }
        self.site.answers_well(Some(GOOD)).await
    }

    /// The command that makes the control service do something.
    #[must_use]
    pub fn control_command(&self, action: &[&str]) -> Vec<String> {
        let control = self.control.to_string();
        let program = self.program.display().to_string();
        let fixed = [program.as_str(), "demo-ctl", "--control", &control];
        fixed.iter().chain(action).map(|argument| (*argument).to_owned()).collect()
    }

    /// What became of the traffic so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.traffic.tally()
    }

    /// Where the service answers: the proxy, or each instance.
    #[must_use]
    pub fn front(&self) -> &[reqwest::Url] {
        &self.site.front
    }

    /// How it is taken back.
    #[must_use]
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Ends traffic, instances, proxy and control service.
    pub async fn shut_down(self) {
        self.traffic.shut_down().await;
        self.stop.cancel();
        self.servers.wait().await;
        self.site.supervisor.shut_down().await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const fn needs_proxy(strategy: Strategy) -> bool {
    match strategy {
        Strategy::BlueGreen | Strategy::Canary => true,
        Strategy::Direct | Strategy::Rolling => false,
    }
}

/// The instances of a strategy, each with an address of its own; where there is a proxy, the good release's comes first.
fn specs(strategy: Strategy, root: &Path) -> Result<Vec<Spec>, StageError> {
    let names: &[(&str, &str)] = match strategy {
        Strategy::Direct => &[(WORKLOAD, "current")],
        Strategy::Rolling => &[("a", "current-a"), ("b", "current-b"), ("c", "current-c")],
        Strategy::BlueGreen => &[("blue", "blue"), ("green", "green")],
        Strategy::Canary => &[("stable", "stable"), ("canary", "canary")],
    };
    let addresses = free_addresses(names.len()).map_err(StageError::system("finding free ports"))?;
    let specs = names.iter().zip(addresses).map(|((name, link), listen)| Spec {
        name: (*name).to_owned(),
        link: root.join(link),
        listen,
        cgroup: root.join("cgroup").join(name),
    });
    Ok(specs.collect())
}

/// Loopback addresses that nobody listens on, all different.
fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind(any)).collect::<Result<_, _>>()?;
    held.iter().map(std::net::TcpListener::local_addr).collect()
}

fn backend(spec: &Spec, release: &str, weight: u32) -> Backend {
    Backend { name: spec.name.clone(), release: release.to_owned(), address: spec.listen, weight }
}

fn write_release(root: &Path, release: &ReleaseFile) -> Result<(), StageError> {
    let directory = root.join(RELEASES).join(&release.version);
    let write = || {
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(ReleaseFile::NAME), release.text())
    };
    write().map_err(StageError::system(format!("writing release {}", release.version)))
}

/// What a deployment tool does: a new link renamed over the old one.
fn link(link: &Path, release: &str) -> Result<(), StageError> {
    let fresh = link.with_extension("new");
    let switch = || {
        std::os::unix::fs::symlink(Path::new(RELEASES).join(release), &fresh)?;
        std::fs::rename(&fresh, link)
    };
    switch().map_err(StageError::system(format!("linking {}", link.display())))
}

async fn start_instance(site: &Site, spec: &Spec, release: &str) -> Result<(), StageError> {
    site.supervisor.order(&spec.name, Order::Restart).await?;
    let health = format!("{}health", address(spec.listen));
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Ok(answer) = site.client.get(&health).send().await
            && answer.headers().get(super::app::RELEASE_HEADER).is_some_and(|found| found == release)
        {
            return Ok(());
        }
        tokio::time::sleep(START_POLL).await;
    }
    Err(StageError::Instance(format!("{} does not answer at {}", spec.name, spec.listen)))
}

async fn serve(
    router: axum::Router,
    servers: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, StageError> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(any).await.map_err(StageError::system("listening"))?;
    let address = listener.local_addr().map_err(StageError::system("listening"))?;
    let stop = stop.clone();
    servers.spawn(async move {
        let serving = axum::serve(listener, router);
        stop.run_until_cancelled(async { serving.await }).await;
    });
    Ok(address)
}

#[cfg(test)]
mod tests;
