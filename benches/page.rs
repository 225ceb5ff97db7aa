//! The page that the benches scan: 168 KB and 2,160 series of a busy web service, 300 of them of interest to a policy.

use std::fmt::Write;

/// Selectors of what a policy with error rate and latency reads; they match [`WANTED`] series.
pub(crate) const COUNTER: &str = "http_requests_total";
/// The histogram family of the latency signal.
pub(crate) const HISTOGRAM: &str = "http_request_duration_seconds";
/// Series that the two of them match.
pub(crate) const WANTED: usize = 300;
/// Series on the page.
pub(crate) const SERIES: usize = 2_160;

const PATHS: [&str; 10] = [
    "/api/v1/orders",
    "/api/v1/orders/:id",
    "/api/v1/customers",
    "/api/v1/baskets",
    "/api/v1/payments",
    "/api/v1/search",
    "/healthz",
    "/login",
    "/logout",
    "/static",
];
const CODES: [&str; 6] = ["200", "201", "304", "404", "500", "503"];
const BOUNDS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];

/// The page as scrape number `scrape` finds it: the same series, other values.
pub(crate) fn page(scrape: u64) -> String {
    let mut page = Page { text: String::with_capacity(176 << 10), values: scrape.wrapping_mul(7919), series: 0 };
    page.histograms("grpc_handling_time_seconds", &["warehouse", "ledger", "mail", "pricing", "tax"], 9);
    page.head(COUNTER, "counter", "Requests served.");
    for path in PATHS {
        for code in CODES {
            page.sample(&format!("{COUNTER}{{method=\"GET\",code=\"{code}\",path=\"{path}\"}}"));
        }
    }
    page.histograms("db_query_seconds", &["orders", "customers", "baskets", "payments"], 10);
    page.head(HISTOGRAM, "histogram", "Time to serve a request.");
    for path in PATHS {
        for method in ["GET", "POST"] {
            for bound in BOUNDS {
                page.sample(&format!("{HISTOGRAM}_bucket{{method=\"{method}\",path=\"{path}\",le=\"{bound}\"}}"));
            }
        }
    }
    page.histograms("cache_lookup_seconds", &["sessions", "prices"], 8);
    page.runtime();
    page.text
}

struct Page {
    text: String,
    values: u64,
    series: usize,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, series: &str) {
        self.values = self.values.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = self.values >> 40;
        let _ = match value % 4 {
            0 => writeln!(self.text, "{series} {}", value as f64 / 1024.0),
            _ => writeln!(self.text, "{series} {value}"),
        };
        self.series += 1;
    }

    fn histograms(&mut self, name: &str, kinds: &[&str], instances: usize) {
        self.head(name, "histogram", "Time that a call took, in seconds.");
        for kind in kinds {
            for instance in 0..instances {
                let labels = format!("to=\"{kind}\",shard=\"{instance:02}\"");
                for bound in BOUNDS {
                    self.sample(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"));
                }
                self.sample(&format!("{name}_sum{{{labels}}}"));
                self.sample(&format!("{name}_count{{{labels}}}"));
            }
        }
    }

    /// Many small families, up to the page's number of series.
    fn runtime(&mut self) {
        let mut family = 0;
        while self.series < SERIES {
            let name = format!("subsystem_{family:03}_events_total");
            self.head(&name, "counter", "Events seen since the start.");
            for state in ["ok", "retried", "dropped", "late"] {
                if self.series < SERIES {
                    self.sample(&format!("{name}{{state=\"{state}\",pool=\"default\"}}"));
                }
            }
            family += 1;
        }
    }
}
