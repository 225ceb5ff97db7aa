//! The flight recorder: what is kept of a release that went bad before anything is touched. Its pods and their logs go
//! with it, and whoever asks later what happened has nothing else to go by.

use serde::{Deserialize, Serialize};

use crate::domain::id::{InstanceId, RevisionId};
use crate::domain::policy::{ClusterObject, Pin};
use crate::domain::time::{Span, Timestamp};

/// How long a plan waits for the recording, at most. What has not come by then is left out, and said to be.
pub const RECORDING_LIMIT: Span = Span::from_secs(3);

/// Pods that are kept; those that are not in service first.
pub const MOST_PODS: usize = 5;
/// Containers of a pod.
const MOST_CONTAINERS: usize = 8;
/// Events, the newest.
pub const MOST_EVENTS: usize = 30;
/// Fields that differ between two templates.
pub const MOST_CHANGES: usize = 60;
/// Logs, one a container that ended.
pub const MOST_LOGS: usize = 3;
/// Lines of a log, the last ones.
pub const MOST_LINES: usize = 50;
/// Bytes of a log.
pub const MOST_LOG_BYTES: usize = 8 * 1024;
/// What could not be had, and why.
const MOST_MISSING: usize = 16;
/// Bytes of any one text.
const LONGEST_TEXT: usize = 400;
/// Lines of each sort in a brief, and the bytes of one.
const BRIEF_LINES: usize = 5;
const BRIEF_TEXT: usize = 160;

/// Where a value may be a secret.
pub const NOT_SHOWN: &str = "(not shown)";

/// What is to be recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// The release that went bad, and what runs it.
    pub from: (ClusterObject, RevisionId),
    /// The release to go back to, where there is one, and what runs it.
    pub to: Option<(ClusterObject, RevisionId)>,
    /// What keeps the template of `from`.
    pub keeper: Option<Pin>,
    /// The instances of `from`, those that are not in service first.
    pub instances: Vec<InstanceId>,
}

/// What was recorded. Bounded by [`Recording::bounded`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Recording {
    /// The release that went bad.
    pub from: Option<RevisionId>,
    /// The release that its template was compared with.
    pub to: Option<RevisionId>,
    /// What differs between their templates.
    pub changes: Vec<Change>,
    /// Pods of the bad release.
    pub pods: Vec<SeenPod>,
    /// What the cluster said of the workload and of these pods, oldest first.
    pub events: Vec<SeenEvent>,
    /// The last words of containers that ended.
    pub logs: Vec<Log>,
    /// What could not be had, and why; and what was left out.
    pub missing: Vec<String>,
}

/// A field that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Where it is: `containers.app.image`.
    pub field: String,
    /// What the bad release says; none where it has no such field.
    pub from: Option<String>,
    /// What the other one says.
    pub to: Option<String>,
}

/// A pod as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeenPod {
    /// Its name.
    pub name: String,
    /// Its phase, and why where it says so.
    pub phase: String,
    /// Whether it was in service.
    pub is_ready: bool,
    /// Its containers.
    pub containers: Vec<SeenContainer>,
}

/// A container as it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeenContainer {
    /// Its name.
    pub name: String,
    /// Whether it runs, or what it waits for, or how it ended.
    pub state: String,
    /// How it ended before that.
    pub last_end: Option<String>,
    /// Times that it was started again.
    pub restarts: u32,
}

/// What the cluster said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeenEvent {
    /// When it said so last.
    pub at: Option<Timestamp>,
    /// What it is about: `Pod shop-5c9-x`.
    pub about: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
    /// How often.
    pub count: u32,
}

/// The end of a container's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Log {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether it is of the life before the present one.
    pub is_previous: bool,
    /// The last lines.
    pub lines: Vec<String>,
    /// Whether more was said before them.
    pub is_cut: bool,
}

/// A recording in a few lines, for people who look at the workload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Brief {
    /// What the release changed.
    pub changes: Vec<String>,
    /// How its containers were.
    pub containers: Vec<String>,
    /// The last lines of one that ended.
    pub log: Vec<String>,
}

impl Recording {
    /// Within every bound; what was left out is said.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let mut left_out = Vec::new();
        let mut cut = |what: &str, there: usize, most: usize| {
            if there > most {
                left_out.push(format!("{} more {what} are left out", there - most));
            }
        };
        cut("changed fields", self.changes.len(), MOST_CHANGES);
        cut("pods", self.pods.len(), MOST_PODS);
        cut("events", self.events.len(), MOST_EVENTS);
        cut("logs", self.logs.len(), MOST_LOGS);
        self.changes.truncate(MOST_CHANGES);
        self.pods.truncate(MOST_PODS);
        self.events.drain(..self.events.len().saturating_sub(MOST_EVENTS));
        self.logs.truncate(MOST_LOGS);
        self.missing.extend(left_out);
        self.missing.truncate(MOST_MISSING);
        for change in &mut self.changes {
            shorten(&mut change.field);
            change.from.iter_mut().chain(&mut change.to).for_each(shorten);
        }
        for pod in &mut self.pods {
            pod.containers.truncate(MOST_CONTAINERS);
            [&mut pod.name, &mut pod.phase].into_iter().for_each(shorten);
            for container in &mut pod.containers {
                [&mut container.name, &mut container.state]
                    .into_iter()
                    .chain(&mut container.last_end)
                    .for_each(shorten);
            }
        }
        for event in &mut self.events {
            [&mut event.about, &mut event.kind, &mut event.reason, &mut event.message].into_iter().for_each(shorten);
        }
        self.logs.iter_mut().for_each(Log::shrink);
        self.missing.iter_mut().for_each(shorten);
        self
    }

    /// In a few lines.
    #[must_use]
    pub fn brief(&self) -> Brief {
        let mut containers: Vec<String> = Vec::new();
        for container in self.pods.iter().flat_map(|pod| &pod.containers) {
            let last = container.last_end.as_ref().map(|end| format!("; before that {end}")).unwrap_or_default();
            let line = format!("{}: {}{last}", container.name, container.state);
            if !containers.contains(&line) {
                containers.push(line);
            }
        }
        let log = self.logs.first().map(|log| log.lines.as_slice()).unwrap_or_default();
        let log = log.get(log.len().saturating_sub(BRIEF_LINES)..).unwrap_or_default();
        let brief =
            |lines: Vec<String>| lines.into_iter().take(BRIEF_LINES).map(|line| cut_at(line, BRIEF_TEXT)).collect();
        Brief {
            changes: brief(self.changes.iter().map(Change::in_words).collect()),
            containers: brief(containers),
            log: brief(log.to_vec()),
        }
    }
}

impl Change {
    /// In a line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { field, from, to } = self;
        match (from, to) {
            (Some(from), Some(to)) if from == to && to == NOT_SHOWN => format!("{field} is another one"),
            (Some(from), Some(to)) => format!("{field} is {from}, was {to}"),
            (Some(from), None) => format!("{field} is {from}, was not there"),
            (None, to) => format!("{field} is gone, was {}", to.as_deref().unwrap_or_default()),
        }
    }
}

impl Log {
    fn shrink(&mut self) {
        [&mut self.pod, &mut self.container].into_iter().for_each(shorten);
        let before = self.lines.len();
        self.lines.drain(..before.saturating_sub(MOST_LINES));
        self.lines.iter_mut().for_each(shorten);
        let mut bytes: usize = self.lines.iter().map(|line| line.len() + 1).sum();
        let mut gone = 0;
        while bytes > MOST_LOG_BYTES {
            bytes -= self.lines.get(gone).map_or(bytes, |line| line.len() + 1);
            gone += 1;
        }
        self.lines.drain(..gone.min(self.lines.len()));
        self.is_cut |= self.lines.len() < before;
    }
}

fn shorten(text: &mut String) {
    *text = cut_at(std::mem::take(text), LONGEST_TEXT);
}

/// One line of so many bytes at most.
fn cut_at(text: String, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() <= most {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: Vec<String>) -> Log {
        Log { pod: "p".to_owned(), container: "c".to_owned(), is_previous: true, lines, is_cut: false }
    }

    #[test]
    fn whatever_a_cluster_says_a_recording_is_small() {
        let long = || "é\n".repeat(10_000);
        let change = || Change { field: long(), from: Some(long()), to: None };
        let container = || SeenContainer { name: long(), state: long(), last_end: Some(long()), restarts: 1 };
        let pod = || SeenPod {
            name: long(),
            phase: long(),
            is_ready: false,
            containers: (0..100).map(|_| container()).collect(),
        };
        let event = |n: u32| SeenEvent {
            at: None,
            about: long(),
            kind: long(),
            reason: long(),
            message: format!("{n} {}", long()),
            count: n,
        };
        let recording = Recording {
            changes: (0..1_000).map(|_| change()).collect(),
            pods: (0..100).map(|_| pod()).collect(),
            events: (0..500).map(event).collect(),
            logs: (0..100).map(|_| log((0..1_000).map(|_| long()).collect())).collect(),
            missing: (0..100).map(|_| long()).collect(),
            ..Recording::default()
        };
        let bounded = recording.bounded();
        let size = serde_json::to_string(&bounded).unwrap().len();
        assert!(size < 256 * 1024, "{size} bytes");
        assert_eq!(bounded.events.last().unwrap().count, 499, "the newest stay");
        assert!(bounded.logs.iter().all(|log| log.is_cut));
        assert!(serde_json::to_string(&bounded.brief()).unwrap().len() < 4 * 1024);
        assert!(!bounded.changes[0].field.contains('\n'));
    }

    #[test]
    fn of_a_log_the_end_stays() {
        let mut long = log((0..60).map(|n| format!("line {n}")).collect());
        long.shrink();
        assert!(long.is_cut && long.lines.len() == MOST_LINES && long.lines.last().unwrap() == "line 59");
        let mut wide = log((0..40).map(|_| "x".repeat(390)).collect());
        wide.shrink();
        assert_eq!(wide.lines.len(), MOST_LOG_BYTES / 391);
        let mut short = log(vec!["all".to_owned()]);
        short.shrink();
        assert!(!short.is_cut);
    }

    #[test]
    fn a_brief_says_what_changed_and_what_was_said_last() {
        let change =
            Change { field: "containers.app.image".to_owned(), from: Some("a:2".into()), to: Some("a:1".into()) };
        let container = SeenContainer {
            name: "app".to_owned(),
            state: "waits: CrashLoopBackOff".to_owned(),
            last_end: Some("Error, exit code 1".to_owned()),
            restarts: 3,
        };
        let pod = SeenPod { name: "p".into(), phase: "Running".into(), is_ready: false, containers: vec![container] };
        let recording = Recording {
            changes: vec![change],
            pods: vec![pod.clone(), pod],
            logs: vec![log((0..9).map(|n| format!("line {n}")).collect())],
            ..Recording::default()
        };
        let brief = recording.brief();
        assert_eq!(brief.changes, ["containers.app.image is a:2, was a:1"]);
        assert_eq!(brief.containers, ["app: waits: CrashLoopBackOff; before that Error, exit code 1"]);
        assert_eq!(brief.log, ["line 4", "line 5", "line 6", "line 7", "line 8"]);
    }
}
