//! The daemon's eyes on real sockets and real files: what each kind of bad peer is called, what a good one costs.

mod hostile;
mod server;
mod steady;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rollbackd::clock::Clock;
use rollbackd::config::{self, model::Config};
use rollbackd::domain::observation::{Answer, Fault, Observation, Page, Seen};
use rollbackd::observe::{ObserveStats, Observers};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// How long a test waits for what must come. On a busy machine even quick things take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Eyes on a workload, and a host with two releases for it.
struct Eyes {
    observers: Observers,
    stats: Arc<ObserveStats>,
    seen: mpsc::Receiver<Observation>,
    place: TempDir,
}

impl Eyes {
    /// Eyes that look at nothing yet.
    fn new(capacity: usize) -> Self {
        let place = tempfile::tempdir().unwrap();
        for release in ["v1", "v2"] {
            std::fs::create_dir_all(place.path().join("releases").join(release)).unwrap();
        }
        symlink("releases/v1", place.path().join("current")).unwrap();
        let (sender, seen) = mpsc::channel(capacity);
        let stats = Arc::new(ObserveStats::default());
        let observers = Observers::new(Clock::start(None), sender, Arc::clone(&stats));
        Self { observers, stats, seen, place }
    }

    /// Eyes that look as these lines of a workload's section say.
    fn on(lines: &str) -> Self {
        let eyes = Self::new(64);
        eyes.apply(lines);
        eyes
    }

    fn apply(&self, lines: &str) {
        self.observers.apply(&self.config(lines));
    }

    fn config(&self, lines: &str) -> Config {
        let text = format!(
            "[daemon]\nstate_dir = \"/var/lib/rollbackd\"\n\n[workload.shop]\nrelease_dir = {{ path = \"{}\", restart = [\"/bin/true\"] }}\n{lines}\n",
            self.place.path().display()
        );
        config::parse(&[(PathBuf::from("test.toml"), text)]).unwrap_or_else(|problems| panic!("{problems}"))
    }

    async fn next(&mut self) -> Observation {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("an observation is due").unwrap()
    }

    /// The next look at an exposition page: which target, and how it ended.
    async fn scrape(&mut self) -> (String, Result<Page, Fault>) {
        loop {
            if let Seen::Scrape { target, result, .. } = self.next().await.seen {
                return (target.to_string(), result);
            }
        }
    }

    /// The next look at a health endpoint.
    async fn probe(&mut self) -> (String, Result<Answer, Fault>) {
        loop {
            if let Seen::Probe { target, result, .. } = self.next().await.seen {
                return (target.to_string(), result);
            }
        }
    }

    /// The first scrape of each of so many targets, as text, by port.
    async fn scrapes(&mut self, targets: usize) -> BTreeMap<u16, String> {
        let mut ends = BTreeMap::new();
        while ends.len() < targets {
            let (target, result) = self.scrape().await;
            let port = target.rsplit_once(':').unwrap().1.parse().unwrap();
            ends.entry(port).or_insert_with(|| match result {
                Ok(page) => format!("{} samples", page.samples.len()),
                Err(fault) => fault.to_string(),
            });
        }
        ends
    }

    fn switch(&self, release: &str) {
        let next = self.place.path().join("next");
        symlink(Path::new("releases").join(release), &next).unwrap();
        std::fs::rename(next, self.place.path().join("current")).unwrap();
    }
}

/// The lines that make these the workload's pages.
fn pages(interval: &str, urls: &[String]) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!("interval = \"{interval}\"\nscrape = {{ urls = [{}] }}", urls.join(", "))
}
