//! The names that requests, errors and latencies have in the wild, so that a policy need not spell them out.
//!
//! One table, tried from top to bottom: the first whose series are on the page is used. Where one convention has several
//! label names for the status, each is a row, and its total asks for that label, so that a row is only taken where errors
//! could be told by it.

use crate::domain::health::selector::Selector;
use crate::domain::policy::{Aggregate, Candidate, Formula, Operand, OperandKind, Operands};
use crate::domain::units::Unit;

/// How a convention counts requests and those that failed.
enum Requests {
    /// Two counters.
    Counters { bad: &'static str, total: &'static str },
    /// A gauge that is the share already.
    Share(&'static str),
}

/// How a convention measures latency.
enum Latency {
    /// Classic histogram by its family name, or a selector on it.
    Histogram(&'static str),
    /// Summary by its name.
    Summary(&'static str),
}

/// One row: who names it so, and how.
struct Row<T> {
    convention: &'static str,
    series: T,
    /// Factor to the base unit.
    scale: f64,
}

const fn counters(convention: &'static str, bad: &'static str, total: &'static str) -> Row<Requests> {
    Row { convention, series: Requests::Counters { bad, total }, scale: 1.0 }
}

const fn histogram(convention: &'static str, family: &'static str, scale: f64) -> Row<Latency> {
    Row { convention, series: Latency::Histogram(family), scale }
}

const fn summary(convention: &'static str, name: &'static str, scale: f64) -> Row<Latency> {
    Row { convention, series: Latency::Summary(name), scale }
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

fn requests() -> Vec<Row<Requests>> {
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
        Row { convention: PROCEDURES, series: Requests::Share("http_req_failed"), scale: 1.0 },
    ]
}

fn latencies() -> Vec<Row<Latency>> {
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
}

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

/// All of them, by name.
pub(super) const SIGNALS: [(&str, Conventional); 4] = [
    ("error_rate", Conventional::ErrorRate),
    ("p95_latency", Conventional::Latency(0.95)),
    ("p99_latency", Conventional::Latency(0.99)),
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
            Conventional::ErrorRate => requests().iter().map(|row| error_rate(row, operands)).collect(),
            Conventional::Latency(quantile) => latencies().iter().map(|row| latency(row, quantile, operands)).collect(),
            Conventional::RequestRate => {
                let rows = requests();
                let rates = rows.iter().filter_map(|row| match &row.series {
                    Requests::Counters { total, .. } => Some((row, *total)),
                    Requests::Share(_) => None,
                });
                rates
                    .map(|(row, total)| {
                        let counter = intern(operands, total, OperandKind::Value)?;
                        Some(candidate(row, Formula::Rate { counter }))
                    })
                    .collect()
            }
        }
    }
}

fn error_rate(row: &Row<Requests>, operands: &mut Operands) -> Option<Candidate> {
    let formula = match row.series {
        Requests::Counters { bad, total } => Formula::Ratio {
            bad: intern(operands, bad, OperandKind::Value)?,
            total: intern(operands, total, OperandKind::Value)?,
        },
        Requests::Share(gauge) => {
            Formula::Gauge { gauge: intern(operands, gauge, OperandKind::Value)?, aggregate: Aggregate::Avg }
        }
    };
    Some(candidate(row, formula))
}

fn latency(row: &Row<Latency>, quantile: f64, operands: &mut Operands) -> Option<Candidate> {
    let formula = match row.series {
        Latency::Histogram(family) => {
            Formula::Histogram { buckets: intern(operands, family, OperandKind::Buckets)?, quantile }
        }
        // Only a summary that offers this very quantile is of use.
        Latency::Summary(name) => {
            let selector = format!("{name}{{quantile=\"{quantile}\"}}");
            Formula::Summary { quantiles: intern(operands, &selector, OperandKind::Quantiles)?, quantile }
        }
    };
    Some(candidate(row, formula))
}

fn candidate<T>(row: &Row<T>, formula: Formula) -> Candidate {
    Candidate { convention: Some(row.convention), formula, scale: row.scale }
}

fn intern(operands: &mut Operands, selector: &str, kind: OperandKind) -> Option<crate::domain::policy::OperandId> {
    let selector = Selector::parse(selector).expect("the table's selectors are constants, and a test parses each");
    operands.intern(Operand { selector, kind })
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
