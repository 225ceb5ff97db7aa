//! The names that requests, errors and latencies have in the wild, so that a policy need not spell them out.
//!
//! One table, tried from top to bottom: the first whose series are on the page is used. Where one convention has several
//! label names for the status, each is a row, and its total asks for that label, so that a row is only taken where errors
//! could be told by it.

use std::sync::LazyLock;

use crate::domain::health::selector::Selector;
use crate::domain::policy::{Aggregate, Candidate, Formula, Operand, OperandId, OperandKind, Operands};
use crate::domain::units::Unit;

/// How a convention counts requests and those that failed.
enum Requests {
    /// Two counters.
    Counters { bad: Operand, total: Operand },
    /// A gauge that is the share already.
    Share(Operand),
}

/// How a convention measures latency.
enum Latency {
    /// Classic histogram.
    Histogram(Operand),
    /// Summary, with one operand for each quantile that a signal asks for: one that does not offer it is of no use.
    Summary(Vec<(f64, Operand)>),
}

/// One row: who names it so, and how.
struct Row<T> {
    convention: &'static str,
    series: T,
    /// Factor to the base unit.
    scale: f64,
}

fn operand(selector: &str, kind: OperandKind) -> Operand {
    let selector = Selector::parse(selector).expect("the table's selectors are constants, and a test parses each");
    Operand { selector, kind }
}

fn counters(convention: &'static str, bad: &str, total: &str) -> Row<Requests> {
    let [bad, total] = [bad, total].map(|selector| operand(selector, OperandKind::Value));
    Row { convention, series: Requests::Counters { bad, total }, scale: 1.0 }
}

fn share(convention: &'static str, gauge: &str) -> Row<Requests> {
    Row { convention, series: Requests::Share(operand(gauge, OperandKind::Value)), scale: 1.0 }
}

fn histogram(convention: &'static str, family: &str, scale: f64) -> Row<Latency> {
    Row { convention, series: Latency::Histogram(operand(family, OperandKind::Buckets)), scale }
}

fn summary(convention: &'static str, name: &str, scale: f64) -> Row<Latency> {
    let with_quantile =
        |quantile: f64| (quantile, operand(&format!("{name}{{quantile=\"{quantile}\"}}"), OperandKind::Quantiles));
    Row { convention, series: Latency::Summary(QUANTILES.map(with_quantile).to_vec()), scale }
}

const SECONDS: f64 = 1.0;
const MILLISECONDS: f64 = 0.001;

const OPENTELEMETRY: &str = "OpenTelemetry HTTP";
const CLIENT_LIBRARIES: &str = "Prometheus client libraries";
const PROMETHEUS_NET: &str = "prometheus-net";
const MICROMETER: &str = "Micrometer";
const GRPC: &str = "gRPC";
const ISTIO: &str = "Istio";
const LINKERD: &str = "Linkerd";
const ENVOY: &str = "Envoy";
const TRAEFIK: &str = "Traefik";
const INGRESS_NGINX: &str = "ingress-nginx";
const PROCEDURES: &str = "rollback procedures";

/// How requests and errors are counted. Parsed once, and shared by all workloads.
static REQUESTS: LazyLock<Vec<Row<Requests>>> = LazyLock::new(|| {
    vec![
        counters(
            OPENTELEMETRY,
            r#"http_server_request_duration_seconds_count{http_response_status_code=~"5.."}"#,
            "http_server_request_duration_seconds_count",
        ),
        counters(CLIENT_LIBRARIES, r#"http_requests_total{code=~"5.."}"#, r#"http_requests_total{code!=""}"#),
        counters(CLIENT_LIBRARIES, r#"http_requests_total{status=~"5.."}"#, r#"http_requests_total{status!=""}"#),
        counters(
            CLIENT_LIBRARIES,
            r#"http_requests_total{status_code=~"5.."}"#,
            r#"http_requests_total{status_code!=""}"#,
        ),
        counters(
            PROMETHEUS_NET,
            r#"http_requests_received_total{code=~"5.."}"#,
            r#"http_requests_received_total{code!=""}"#,
        ),
        counters(
            MICROMETER,
            r#"http_server_requests_seconds_count{status=~"5.."}"#,
            r#"http_server_requests_seconds_count{status!=""}"#,
        ),
        counters(
            GRPC,
            r#"grpc_server_handled_total{grpc_code=~"Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss"}"#,
            "grpc_server_handled_total",
        ),
        counters(
            ISTIO,
            r#"istio_requests_total{reporter="destination",response_code=~"5.."}"#,
            r#"istio_requests_total{reporter="destination"}"#,
        ),
        counters(
            LINKERD,
            r#"response_total{direction="inbound",classification="failure"}"#,
            r#"response_total{direction="inbound"}"#,
        ),
        counters(
            ENVOY,
            r#"envoy_cluster_upstream_rq_xx{envoy_response_code_class="5"}"#,
            "envoy_cluster_upstream_rq_xx",
        ),
        counters(TRAEFIK, r#"traefik_service_requests_total{code=~"5.."}"#, "traefik_service_requests_total"),
        counters(
            INGRESS_NGINX,
            r#"nginx_ingress_controller_requests{status=~"5.."}"#,
            "nginx_ingress_controller_requests",
        ),
        counters(PROCEDURES, "http_req_failed", "http_reqs"),
        share(PROCEDURES, "http_req_failed"),
    ]
});

/// How latency is measured.
static LATENCIES: LazyLock<Vec<Row<Latency>>> = LazyLock::new(|| {
    vec![
        histogram(OPENTELEMETRY, "http_server_request_duration_seconds", SECONDS),
        histogram(CLIENT_LIBRARIES, "http_request_duration_seconds", SECONDS),
        summary(CLIENT_LIBRARIES, "http_request_duration_seconds", SECONDS),
        histogram(MICROMETER, "http_server_requests_seconds", SECONDS),
        summary(MICROMETER, "http_server_requests_seconds", SECONDS),
        histogram(GRPC, "grpc_server_handling_seconds", SECONDS),
        histogram(ISTIO, r#"istio_request_duration_milliseconds{reporter="destination"}"#, MILLISECONDS),
        histogram(LINKERD, r#"response_latency_ms{direction="inbound"}"#, MILLISECONDS),
        histogram(ENVOY, "envoy_cluster_upstream_rq_time", MILLISECONDS),
        histogram(TRAEFIK, "traefik_service_request_duration_seconds", SECONDS),
        histogram(INGRESS_NGINX, "nginx_ingress_controller_request_duration_seconds", SECONDS),
        summary(PROCEDURES, "http_req_duration", MILLISECONDS),
        histogram(PROCEDURES, "http_req_duration", MILLISECONDS),
    ]
});

/// A signal that exists without a section.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Conventional {
    /// Share of requests that failed.
    ErrorRate,
    /// This quantile of the latency.
    Latency(f64),
    /// Requests a second.
    RequestRate,
}

/// The quantiles that conventional signals ask for.
const QUANTILES: [f64; 2] = [0.95, 0.99];

/// All of them, by name.
pub(super) const SIGNALS: [(&str, Conventional); 4] = [
    ("error_rate", Conventional::ErrorRate),
    ("p95_latency", Conventional::Latency(QUANTILES[0])),
    ("p99_latency", Conventional::Latency(QUANTILES[1])),
    ("request_rate", Conventional::RequestRate),
];

impl Conventional {
    pub(super) const fn unit(self) -> Unit {
        match self {
            Conventional::ErrorRate => Unit::Ratio,
            Conventional::Latency(_) => Unit::Seconds,
            Conventional::RequestRate => Unit::PerSecond,
        }
    }

    /// Whether it is about so many requests that too few of them prove nothing.
    pub(super) const fn counts_requests(self) -> bool {
        match self {
            Conventional::ErrorRate | Conventional::Latency(_) => true,
            Conventional::RequestRate => false,
        }
    }

    /// How it may be computed, in the order of the table. `None` where the operands are too many.
    pub(super) fn candidates(self, operands: &mut Operands) -> Option<Vec<Candidate>> {
        match self {
            Conventional::ErrorRate => REQUESTS.iter().map(|row| error_rate(row, operands)).collect(),
            Conventional::Latency(quantile) => LATENCIES.iter().map(|row| latency(row, quantile, operands)).collect(),
            Conventional::RequestRate => REQUESTS.iter().filter_map(|row| request_rate(row, operands)).collect(),
        }
    }
}

fn error_rate(row: &Row<Requests>, operands: &mut Operands) -> Option<Candidate> {
    let mut intern = |operand: &Operand| operands.intern(operand.clone());
    let formula = match &row.series {
        Requests::Counters { bad, total } => Formula::Ratio { bad: intern(bad)?, total: intern(total)? },
        Requests::Share(gauge) => Formula::Gauge { gauge: intern(gauge)?, aggregate: Aggregate::Avg },
    };
    Some(candidate(row, formula))
}

/// `None` for a row that does not count requests.
fn request_rate(row: &Row<Requests>, operands: &mut Operands) -> Option<Option<Candidate>> {
    let counter: Option<OperandId> = match &row.series {
        Requests::Counters { total, .. } => operands.intern(total.clone()),
        Requests::Share(_) => return None,
    };
    Some(counter.map(|counter| candidate(row, Formula::Rate { counter })))
}

fn latency(row: &Row<Latency>, quantile: f64, operands: &mut Operands) -> Option<Candidate> {
    let formula = match &row.series {
        Latency::Histogram(family) => Formula::Histogram { buckets: operands.intern(family.clone())?, quantile },
        Latency::Summary(by_quantile) => {
            let (_, quantiles) = by_quantile.iter().find(|(offered, _)| *offered == quantile)?;
            Formula::Summary { quantiles: operands.intern(quantiles.clone())?, quantile }
        }
    };
    Some(candidate(row, formula))
}

fn candidate<T>(row: &Row<T>, formula: Formula) -> Candidate {
    Candidate { convention: Some(row.convention), formula, scale: row.scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_becomes_a_candidate_in_the_order_of_the_table() {
        let mut operands = Operands::default();
        for (name, signal) in SIGNALS {
            let candidates = signal.candidates(&mut operands).unwrap_or_default();
            let names: Vec<_> = candidates.iter().filter_map(|candidate| candidate.convention).collect();
            assert_eq!(names.first(), Some(&OPENTELEMETRY), "{name}");
            assert_eq!(names.last(), Some(&PROCEDURES), "{name}");
            for convention in [CLIENT_LIBRARIES, MICROMETER, GRPC, ISTIO, LINKERD, ENVOY, TRAEFIK, INGRESS_NGINX] {
                assert!(names.contains(&convention), "{name} by {convention}");
            }
        }
        assert!(operands.as_slice().len() < 60, "operands are shared between signals");
    }

    #[test]
    fn milliseconds_become_seconds() {
        let candidates = Conventional::Latency(0.99).candidates(&mut Operands::default()).unwrap_or_default();
        let scaled = candidates.iter().filter(|candidate| candidate.scale == MILLISECONDS);
        let names: Vec<_> = scaled.filter_map(|candidate| candidate.convention).collect();
        assert_eq!(names, [ISTIO, LINKERD, ENVOY, PROCEDURES, PROCEDURES]);
    }
}
