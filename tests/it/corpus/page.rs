//! A pod's own page: counters by status code, the histogram, when the process started, and whether it answered.

use super::deployment::{Life, Pod, Story, Version};
use super::trace::{EPOCH, Trace};

/// The pages' counters, and where they are recorded.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) bounds: &'static [f64],
    answered: u64,
    failed: u64,
    buckets: Vec<u64>,
    sum: f64,
    started: Option<f64>,
    lazy: bool,
    places: Places,
}

/// Where one job's looks are recorded.
#[derive(Debug)]
pub(super) struct Places {
    up: usize,
    codes: [usize; 2],
    histogram: Vec<usize>,
    sum_and_count: [usize; 2],
    process: Option<usize>,
}

impl Places {
    pub(super) fn new(job: &str, story: &Story, pod: &Pod, trace: &mut Trace) -> Self {
        let dialect = &story.dialect;
        let version = usize::from(pod.version == Version::New);
        let (bounds, prefix) = (dialect.bounds[version], dialect.prefix[version]);
        let name = if dialect.pod_label { pod.name.as_str() } else { "" };
        let workload = dialect.workload.as_deref().unwrap_or("");
        let target = [("instance", pod.address.as_str()), ("job", job), ("pod", name), ("workload", workload)];
        let mut own = vec![(dialect.release_label, pod.release())];
        own.retain(|(label, _)| !label.is_empty());
        own.extend(target);
        let mut with = |metric: &str, label: Option<(&'static str, &str)>| {
            let mut labels = own.clone();
            labels.extend(label);
            trace.series(&format!("{prefix}_{metric}"), &labels)
        };
        let codes = ["200", "500"].map(|code| with("requests_total", Some(("code", code))));
        let bucket = |bound: &f64| bound.to_string();
        let les: Vec<String> = bounds.iter().map(bucket).chain(["+Inf".to_owned()]).collect();
        let histogram = les.iter().map(|le| with("request_duration_seconds_bucket", Some(("le", le)))).collect();
        let sum_and_count = ["sum", "count"].map(|end| with(&format!("request_duration_seconds_{end}"), None));
        let process = dialect.process_start.then(|| trace.series("process_start_time_seconds", &own));
        let up = trace.series("up", if dialect.up_tells { &own } else { &target });
        Self { up, codes, histogram, sum_and_count, process }
    }
}

impl Page {
    pub(super) fn new(story: &Story, pod: &Pod, trace: &mut Trace) -> Self {
        let bounds = story.dialect.bounds[usize::from(pod.version == Version::New)];
        Self {
            bounds,
            answered: 0,
            failed: 0,
            buckets: vec![0; bounds.len() + 1],
            sum: 0.0,
            started: None,
            lazy: story.dialect.lazy_codes,
            places: Places::new("api", story, pod, trace),
        }
    }

    /// A process begins to count.
    pub(super) fn reset(&mut self, life: &Life) {
        (self.answered, self.failed, self.sum) = (0, 0, 0.0);
        self.buckets.fill(0);
        self.started = Some(EPOCH as f64 / 1000.0 + life.start);
        if super::record::is_old_life(life) {
            // It has counted for long.
            (self.answered, self.failed, self.sum) = (1_000_000, 1_000, 50_000.0);
            if let Some(place) = self.buckets.first_mut() {
                *place = 1_001_000;
            }
        }
    }

    pub(super) fn add(&mut self, requests: u64, failed: u64, buckets: &[u64], mean: f64) {
        self.answered += requests - failed;
        self.failed += failed;
        self.buckets.iter_mut().zip(buckets).for_each(|(sum, count)| *sum += count);
        self.sum += mean * requests as f64;
    }

    pub(super) fn down(&self, trace: &mut Trace, t: f64) {
        trace.point(self.places.up, t, 0.0);
    }

    pub(super) fn write(&self, trace: &mut Trace, t: f64) {
        self.write_as(&self.places, trace, t);
    }

    pub(super) fn write_as(&self, places: &Places, trace: &mut Trace, t: f64) {
        trace.point(places.up, t, 1.0);
        let is_born = [self.answered > 0 || !self.lazy, self.failed > 0 || !self.lazy];
        for ((series, count), born) in places.codes.iter().zip([self.answered, self.failed]).zip(is_born) {
            if born {
                trace.point(*series, t, count as f64);
            }
        }
        let mut below = 0;
        for (series, count) in places.histogram.iter().zip(&self.buckets) {
            below += count;
            trace.point(*series, t, below as f64);
        }
        trace.point(places.sum_and_count[0], t, self.sum);
        trace.point(places.sum_and_count[1], t, below as f64);
        if let (Some(series), Some(started)) = (places.process, self.started) {
            trace.point(series, t, started);
        }
    }

    pub(super) fn nan(&self, trace: &mut Trace, t: f64) {
        trace.point(self.places.up, t, 1.0);
        for series in self.places.codes.iter().chain(&self.places.histogram).chain(&self.places.sum_and_count) {
            trace.point(*series, t, f64::NAN);
        }
    }
}
