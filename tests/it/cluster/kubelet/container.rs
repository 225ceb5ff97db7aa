//! One container of a pod: started, probed, started anew after each end, with a growing pause.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, Probe,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{environment, logs};
use crate::cluster::container;
use crate::cluster::image::Image;

/// The pause after the second end of a container; it doubles with each further one. A node waits ten times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After so long a run the pause begins anew.
const LONG_RUN: Duration = Duration::from_secs(30);
/// Time between an image that can't be pulled and the next attempt.
const PULL_AGAIN: Duration = Duration::from_secs(2);
/// Time between two looks for a ConfigMap that is not there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time between the first looks at a container that is not ready yet, and how many these are.
const LOOK_SOON: Duration = Duration::from_millis(100);
const YOUNG: u64 = 50;
/// Where a container names no port.
const PORT: u16 = 8080;

/// What a pod's keeper needs to run one of its containers.
pub(super) struct Runner {
    pub(super) container: Container,
    pub(super) pod: Pod,
    pub(super) maps: Api<ConfigMap>,
    pub(super) ip: IpAddr,
    /// Where its output goes.
    pub(super) log: PathBuf,
    /// How long it may take to end, once told to.
    pub(super) grace: Duration,
    /// Where each change is told.
    pub(super) tell: mpsc::Sender<ContainerStatus>,
}

/// A container that is being run.
struct Run {
    runner: Runner,
    status: ContainerStatus,
}

impl Runner {
    /// Runs until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let status = ContainerStatus {
            name: self.container.name.clone(),
            image: image(&self.container).to_owned(),
            state: Some(waiting("ContainerCreating", None)),
            ..ContainerStatus::default()
        };
        let mut run = Run { runner: self, status };
        stop.run_until_cancelled(run.pull()).await;
        let mut ends = 0;
        while !stop.is_cancelled() {
            let begun = tokio::time::Instant::now();
            let Some(status) = run.live(&stop).await else { return };
            ends = if begun.elapsed() > LONG_RUN { 1 } else { ends + 1 };
            run.rest(status, ends, &stop).await;
        }
    }
}

impl Run {
    async fn tell(&self) {
        // Nobody listens any more when the pod is gone.
        let _ = self.runner.tell.send(self.status.clone()).await;
    }

    /// Returns when the image is there.
    async fn pull(&mut self) {
        let image = image(&self.runner.container).to_owned();
        let mut reasons = ["ErrImagePull", "ImagePullBackOff"].into_iter().cycle();
        while Image::of(&image).missing {
            let message = format!("Back-off pulling image \"{image}\": not found");
            self.status.state = Some(waiting(reasons.next().unwrap_or_default(), Some(message)));
            self.tell().await;
            sleep(PULL_AGAIN).await;
        }
        self.status.image_id = format!("{image}@sha256:{}", digest(&image));
    }

    /// One life of the process: how it ended by itself, or nothing where it was told to end.
    async fn live(&mut self, stop: &CancellationToken) -> Option<ExitStatus> {
        let environment = stop.run_until_cancelled(self.environment()).await?;
        let mut child = self.spawn(environment);
        let pid = child.id().unwrap_or_default();
        self.status.container_id = Some(format!("process://{pid}"));
        self.status.started = Some(true);
        self.status.state =
            Some(ContainerState { running: Some(ContainerStateRunning { started_at: Some(now()) }), ..none() });
        let probe = self.runner.container.readiness_probe.clone();
        self.status.ready = probe.is_none();
        self.tell().await;
        let ip = self.runner.ip;
        tokio::select! {
            status = child.wait() => Some(status.unwrap()),
            () = stop.cancelled() => {
                self.end(child, pid).await;
                None
            }
            () = self.probe(probe.as_ref(), ip) => None,
        }
    }

    /// Returns when all ConfigMaps are there that the container needs.
    async fn environment(&mut self) -> BTreeMap<String, String> {
        loop {
            let Runner { container, pod, maps, .. } = &self.runner;
            let (reason, why) = match environment::unmountable(maps, pod).await {
                Some(why) => ("ContainerCreating", why),
                None => match environment::environment(maps, container).await {
                    Ok(found) => return found,
                    Err(why) => ("CreateContainerConfigError", why),
                },
            };
            self.status.state = Some(waiting(reason, Some(why)));
            self.tell().await;
            sleep(LOOK_AGAIN).await;
        }
    }

    fn spawn(&self, environment: BTreeMap<String, String>) -> Child {
        let Runner { container, pod, ip, log, .. } = &self.runner;
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cluster::container::process", "--ignored", "--nocapture"])
            .env_clear()
            .envs(environment)
            .env(container::IMAGE, image(container))
            .env(container::LISTEN, SocketAddr::new(*ip, port(container)).to_string())
            .env(container::LOG, log)
            .env(container::POD, pod.name_any())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output(log))
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Ends the process, with force where it takes too long.
    async fn end(&mut self, mut child: Child, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(self.runner.grace, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        self.status.ready = false;
    }

    /// Asks as long as the process lives whether it is ready, and tells each change.
    async fn probe(&mut self, probe: Option<&Probe>, ip: IpAddr) {
        let Some((probe, get)) = probe.and_then(|probe| Some((probe, probe.http_get.as_ref()?))) else {
            return std::future::pending().await;
        };
        let port = match &get.port {
            IntOrString::Int(port) => u16::try_from(*port).unwrap(),
            IntOrString::String(name) => named_port(&self.runner.container, name),
        };
        let url = format!("http://{}{}", SocketAddr::new(ip, port), get.path.as_deref().unwrap_or("/"));
        let seconds = |given: Option<i32>, or: u64| given.and_then(|given| given.try_into().ok()).unwrap_or(or);
        sleep(Duration::from_secs(seconds(probe.initial_delay_seconds, 0))).await;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(seconds(probe.timeout_seconds, 1)))
            .no_proxy()
            .build()
            .unwrap();
        let period = Duration::from_secs(seconds(probe.period_seconds, 10));
        let mut failures = 0;
        loop {
            let well = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            failures = if well { 0 } else { failures + 1 };
            let ready = well || (self.status.ready && failures < seconds(probe.failure_threshold, 3));
            if ready != self.status.ready {
                self.status.ready = ready;
                self.tell().await;
            }
            // A process needs a moment until it listens, which is not to cost a whole period.
            let is_young = !ready && failures < YOUNG;
            sleep(if is_young { period.min(LOOK_SOON) } else { period }).await;
        }
    }

    /// The pause after an end, which is told.
    async fn rest(&mut self, status: ExitStatus, ends: u32, stop: &CancellationToken) {
        // The kubelet kills none that has not been told to stop: whatever did was the kernel, for want of memory.
        let oom = status.signal() == Some(Signal::KILL.as_raw());
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let running = self.status.state.take().and_then(|state| state.running);
        let terminated = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: code,
                reason: Some(
                    if oom {
                        "OOMKilled"
                    } else if code == 0 {
                        "Completed"
                    } else {
                        "Error"
                    }
                    .to_owned(),
                ),
                started_at: running.and_then(|running| running.started_at),
                finished_at: Some(now()),
                container_id: self.status.container_id.clone(),
                ..ContainerStateTerminated::default()
            }),
            ..none()
        };
        self.status.ready = false;
        self.status.started = Some(false);
        self.status.last_state = Some(terminated);
        keep_log(&self.runner.log);
        let pause = match ends {
            1 => Duration::ZERO,
            _ => (FIRST_PAUSE * 2_u32.saturating_pow(ends - 2)).min(LONGEST_PAUSE),
        };
        let message = format!("back-off {}s restarting failed container", pause.as_secs());
        self.status.state = Some(waiting("CrashLoopBackOff", Some(message)));
        if !pause.is_zero() {
            self.tell().await;
        }
        stop.run_until_cancelled(sleep(pause)).await;
        self.status.restart_count += 1;
    }
}

fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

fn port(container: &Container) -> u16 {
    let first = container.ports.iter().flatten().next();
    first.map_or(PORT, |port| u16::try_from(port.container_port).unwrap())
}

fn named_port(container: &Container, name: &str) -> u16 {
    let mut ports = container.ports.iter().flatten();
    let found = ports.find(|port| port.name.as_deref() == Some(name));
    found.map_or(PORT, |port| u16::try_from(port.container_port).unwrap())
}

fn output(log: &Path) -> Stdio {
    std::fs::OpenOptions::new().create(true).append(true).open(log).map_or_else(|_| Stdio::null(), Stdio::from)
}

/// The log of the life that is over, as `--previous` asks for it.
fn keep_log(log: &Path) {
    // Where the process wrote none there is none to keep.
    let _ = std::fs::rename(log, logs::previous(log));
}

fn digest(image: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

fn none() -> ContainerState {
    ContainerState::default()
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..none() }
}
