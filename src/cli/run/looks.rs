//! What the looks counted, as metrics, read whenever the metrics are.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::observe::{DURATION_BOUNDS, FAULT_KINDS, Looked, ObserveStats};

/// Reads the looks' own counts.
#[derive(Debug)]
pub(super) struct Looks(Arc<ObserveStats>);

impl Looks {
    pub(super) const fn new(stats: Arc<ObserveStats>) -> Self {
        Self(stats)
    }
}

impl Collector for Looks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0;
        by_result(
            &mut encoder,
            "scrapes",
            "Looks at exposition pages by result: ok, or the sort of fault",
            &stats.scrapes,
        )?;
        by_result(&mut encoder, "probes", "Looks at health endpoints by result", &stats.probes)?;
        by_result(&mut encoder, "queries", "Expressions asked of Prometheus servers, by result", &stats.queries)?;
        by_result(&mut encoder, "release_looks", "Looks at which releases are in place, by result", &stats.releases)?;
        by_result(&mut encoder, "host_looks", "Readings of what the host says of instances, by result", &stats.hosts)?;
        durations(
            &mut encoder,
            "scrape_duration_seconds",
            "Time that a look at an exposition page took",
            &stats.scrapes,
        )?;
        count(
            &mut encoder,
            "scraped_bytes",
            "Bytes of exposition pages received, as they came over the wire",
            stats.bytes(),
        )?;
        count(&mut encoder, "kept_samples", "Samples kept of exposition pages", stats.samples())?;
        count(&mut encoder, "skipped_rounds", "Looks left out, because the one before took too long", stats.skipped())
    }
}

fn by_result(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, looked: &Looked) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let faults = FAULT_KINDS.iter().map(|kind| (kind.as_str(), looked.faults(*kind)));
    for (result, count) in std::iter::once(("ok", looked.good())).chain(faults) {
        metric.encode_family(&[("result", result)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

fn count(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn durations(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, looked: &Looked) -> fmt::Result {
    let counts = looked.durations();
    let bounds = DURATION_BOUNDS.iter().copied().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(looked.seconds(), counts.iter().sum(), &buckets, None)
}
