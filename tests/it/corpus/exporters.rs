//! What cAdvisor, kube-state-metrics and a blackbox probe tell of a story.

use super::deployment::{Pod, Story, Version};
use super::effect::{Loss, Who};
use super::noise::Dice;
use super::trace::Trace;

/// Seconds between two looks at an exporter.
const INTERVAL: f64 = 15.0;

/// Times at which an exporter was looked at.
fn times(story: &Story, dice: &mut Dice) -> Vec<f64> {
    let blind = |t: f64| {
        let all = story.sights.iter().filter(|sight| sight.who == Who::All && sight.loss == Loss::Gap);
        all.into_iter().any(|sight| sight.from <= t && t < sight.until)
    };
    let mut times = Vec::new();
    let mut next = dice.between(0.0, INTERVAL);
    while next < story.end {
        times.push(next + dice.between(-0.2, 0.2));
        next += INTERVAL;
    }
    times.retain(|t| *t >= 0.0 && !blind(*t));
    times
}

/// A pod's restarts as kube-state-metrics would have told them.
fn restarts(pod: &Pod, t: f64) -> usize {
    pod.lives.iter().filter(|life| life.start <= t).count().saturating_sub(1) + pod.past
}

fn ooms(pod: &Pod, t: f64) -> usize {
    pod.ooms.iter().filter(|at| **at <= t).count() + pod.past
}

/// When the recording first told something of the new version.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Told {
    /// A pod of it was killed for memory.
    pub(super) killed: Option<f64>,
    /// A pod of it had restarted three times.
    pub(super) looped: Option<f64>,
}

impl Told {
    fn note(first: &mut Option<f64>, at: Option<f64>) {
        *first = [*first, at].into_iter().flatten().min_by(f64::total_cmp);
    }
}

/// When a counter had first grown by so many since it was first recorded.
fn grown(times: &[f64], by: usize, count: impl Fn(f64) -> usize) -> Option<f64> {
    let first = count(*times.first()?);
    times.iter().copied().find(|t| count(*t) >= first + by)
}

pub(super) fn record(story: &Story, dice: &mut Dice, trace: &mut Trace) -> Told {
    let mut told = Told::default();
    if story.dialect.kube {
        let mut at = [times(story, dice), times(story, dice)];
        at.iter_mut().for_each(|at| at.retain(|t| *t >= story.exporters_from));
        for pod in &story.pods {
            of_pod(story, pod, &at, trace, &mut told);
        }
        for stranger in 0..story.strangers {
            of_stranger(story, stranger, &at, trace);
        }
        of_deployment(story, &at[1], trace);
    }
    if story.dialect.probe {
        let workload = story.dialect.workload.as_deref().unwrap_or("");
        let labels = [("instance", "http://api.example.com/health"), ("job", "blackbox"), ("workload", workload)];
        let series = trace.series("probe_success", &labels);
        for t in times(story, dice) {
            let serves = story.pods.iter().any(|pod| pod.serves(t));
            trace.point(series, t, f64::from(serves));
        }
    }
    told
}

fn of_pod(story: &Story, pod: &Pod, at: &[Vec<f64>; 2], trace: &mut Trace, told: &mut Told) {
    let dialect = &story.dialect;
    let is_told = dialect.exporters_tell && !dialect.release_label.is_empty();
    let (label, revision) = if is_told { (dialect.release_label, pod.release()) } else { ("revision", "") };
    let workload = dialect.workload.as_deref().unwrap_or("");
    let labels =
        [("container", "api"), ("namespace", "prod"), ("pod", &pod.name), (label, revision), ("workload", workload)];
    let there = |t: &f64| pod.created <= *t && *t < pod.gone;
    let at: Vec<Vec<f64>> = at.iter().map(|at| at.iter().copied().filter(there).collect()).collect();
    let killed = trace.series("container_oom_events_total", &labels);
    for t in &at[0] {
        trace.point(killed, *t, ooms(pod, *t) as f64);
    }
    let restarted = trace.series("kube_pod_container_status_restarts_total", &labels);
    for t in &at[1] {
        trace.point(restarted, *t, restarts(pod, *t) as f64);
    }
    if pod.version == Version::New {
        Told::note(&mut told.killed, grown(&at[0], 1, |t| ooms(pod, t)));
        Told::note(&mut told.looped, grown(&at[1], 3, |t| restarts(pod, t)));
    }
}

fn of_deployment(story: &Story, at: &[f64], trace: &mut Trace) {
    let workload = story.dialect.workload.as_deref().unwrap_or("");
    let labels = [("deployment", "api"), ("namespace", "prod"), ("workload", workload)];
    let all = trace.series("kube_deployment_status_replicas", &labels);
    let available = trace.series("kube_deployment_status_replicas_available", &labels);
    for t in at {
        let there = || story.pods.iter().filter(|pod| pod.created <= *t && *t < pod.gone);
        trace.point(all, *t, there().count() as f64);
        trace.point(available, *t, there().filter(|pod| pod.serves(*t)).count() as f64);
    }
}

/// A pod of another workload, which is killed three times.
fn of_stranger(story: &Story, number: usize, at: &[Vec<f64>; 2], trace: &mut Trace) {
    let pod = format!("search-5bd7c9f6d4-{}x2vq", ["b", "c", "d"][number % 3]);
    let labels = [("container", "search"), ("namespace", "prod"), ("pod", pod.as_str())];
    let names = ["container_oom_events_total", "kube_pod_container_status_restarts_total"];
    for (name, at) in names.into_iter().zip(at) {
        let series = trace.series(name, &labels);
        for t in at {
            let killed = ((t - story.strangers_killed) / 60.0).ceil().clamp(0.0, 3.0);
            trace.point(series, *t, killed);
        }
    }
}
