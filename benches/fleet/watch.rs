//! The watching side: the real daemon, with a policy that names the targets.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::Failure;

/// Where the workload runs: in a directory of the daemon's,
pub(crate) const RELEASE_DIR: &str = "release_dir = { path = \"{place}/app\", restart = [\"/bin/true\"] }";
/// or where programs say so.
pub(crate) const COMMAND: &str = "command = { current = [\"/bin/echo\", \"v1\"], releases = [\"/bin/echo\", \"v1\"], \
                                  rollback = [\"/bin/true\", \"{release}\"] }";

/// Starts the daemon on a policy that watches these ports.
pub(crate) fn start(place: &Path, ports: &[u16], interval: Duration) -> Result<Child, Failure> {
    start_by(Command::new(env!("CARGO_BIN_EXE_rollbackd")), place, RELEASE_DIR, ports, interval)
}

/// The same, where `command` runs the daemon in its own way.
pub(crate) fn start_by(
    mut command: Command,
    place: &Path,
    runs: &str,
    ports: &[u16],
    interval: Duration,
) -> Result<Child, Failure> {
    let policy = policy(place, runs, ports, interval)?;
    Ok(command.args(["run", "--config"]).arg(policy).env("RUST_LOG", "warn").spawn()?)
}

/// Writes the policy, and the release that it needs.
fn policy(place: &Path, runs: &str, ports: &[u16], interval: Duration) -> Result<PathBuf, Failure> {
    fs::create_dir_all(place.join("app/releases/v1"))?;
    symlink("releases/v1", place.join("app/current"))?;
    // Whoever takes the port in between makes the daemon end, which is noticed.
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let urls: Vec<String> = ports.iter().map(|port| format!("\"http://127.0.0.1:{port}/metrics\"")).collect();
    let runs = runs.replace("{place}", &place.display().to_string());
    let text = format!(
        "[daemon]\nlisten = \"{listen}\"\nstate_dir = \"{place}/state\"\n\n\
         [workload.fleet]\ninterval = \"{}ms\"\n\
         {runs}\n\
         scrape = {{ urls = [{}] }}\n\n\
         [workload.fleet.signal.error_rate]\n\
         bad = 'http_requests_total{{code=~\"5..\"}}'\ntotal = 'http_requests_total'\n\n\
         [workload.fleet.signal.p99_latency]\n\
         histogram = 'http_request_duration_seconds'\nquantile = 0.99\n\n\
         [workload.fleet.signal.p95_latency]\n\
         histogram = 'http_request_duration_seconds'\nquantile = 0.95\n",
        interval.as_millis(),
        urls.join(", "),
        place = place.display(),
    );
    let path = place.join("rollbackd.toml");
    fs::write(&path, text)?;
    Ok(path)
}
