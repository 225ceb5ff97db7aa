//! Recorded history, replayed through the daemon's own judgement: when would it have acted, and was it right?
//!
//! ```text
//! text ─TextReader→ Recorder ─finish→ Recording ─points by time→ Lane ─Observation→ Fleet, Controller ─→ Outcome
//! ```
//!
//! A [`Recorder`] takes points in any order: from OpenMetrics text, from a Prometheus server, or straight from a test:
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use rollbackd::domain::time::Timestamp;
//! use rollbackd::replay::Recorder;
//!
//! let mut recorder = Recorder::new();
//! let labels = [("instance", "10.0.0.1:80"), ("revision", "v2"), ("code", "200")];
//! if let Some(series) = recorder.series("http_requests_total", &labels) {
//!     recorder.point(series, Timestamp::from_millis(1_764_300_720_000), 41.0)?;
//! }
//! let recording = recorder.finish();
//! # assert_eq!(recording.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`replay`] then feeds a [`Recording`] to one [`Subject`] (workload and policy) or several, as [`Options`] say, and
//! gives the [`Outcome`]; [`explain`] tells how it stood at one moment. Nothing of the judgement is here: what the
//! series are to the policy (`bind`), what its edges would have seen of them (`lane`, `view`), and the time at which
//! the daemon would have judged (`drive`).
//!
//! A target is a distinct `instance` (or `pod`) at one release. Points of one target and time are one page, and so are those
//! within a twentieth of the time between two looks.

mod bind;
mod curves;
mod drive;
mod exporters;
mod lane;
mod late;
mod merge;
mod moments;
mod notation;
mod offer;
mod outcome;
mod part;
mod prometheus;
mod recording;
mod rollouts;
mod suite;
mod text;
mod view;

pub use bind::{Options, REVISION_LABEL};
pub use curves::{Curve, Curves};
pub use drive::{Subject, Watcher, explain, replay};
pub use outcome::{Decision, Kind, Near, Outcome};
pub use prometheus::{Fetch, FetchError};
pub use recording::{Recorder, Recording, STALE, SeriesKey, is_stale};
pub use rollouts::{Schedule, moment_from};
pub use suite::{SuiteError, TestResult, run as run_suite};
pub use text::{ReadError, TextReader};

#[cfg(test)]
mod tests;
