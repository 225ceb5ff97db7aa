//! The page that every target serves.

use std::fmt::Write;

/// Series on the page.
pub(crate) const SERIES: usize = 2_160;
/// Of these, what the policy asks for.
pub(crate) const WANTED: usize = HANDLERS * (CODES.len() + BOUNDS.len());

const HANDLERS: usize = 20;
const CODES: [&str; 3] = ["200", "404", "500"];
const BOUNDS: [&str; 12] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
/// Series of one family that nobody asks for.
const FAMILY: usize = 60;

/// 168 KB in the text format.
pub(crate) fn page() -> String {
    let mut page = String::new();
    let mut series = 0;
    let mut line = |page: &mut String, text: std::fmt::Arguments<'_>| {
        // Writing to a String can't fail.
        let _infallible = page.write_fmt(text);
        page.push('\n');
        series += 1;
    };
    page.push_str("# HELP http_requests_total Requests by handler and status.\n# TYPE http_requests_total counter\n");
    for handler in 0..HANDLERS {
        for code in CODES {
            line(
                &mut page,
                format_args!(
                    "http_requests_total{{handler=\"/api/v1/resource{handler}\",code=\"{code}\"}} {}",
                    handler * 1000 + 17
                ),
            );
        }
    }
    page.push_str("# HELP http_request_duration_seconds Latency.\n# TYPE http_request_duration_seconds histogram\n");
    for handler in 0..HANDLERS {
        for (place, bound) in BOUNDS.iter().enumerate() {
            line(
                &mut page,
                format_args!(
                    "http_request_duration_seconds_bucket{{handler=\"/api/v1/resource{handler}\",le=\"{bound}\"}} {}",
                    (place + 1) * 83
                ),
            );
        }
        line(
            &mut page,
            format_args!("http_request_duration_seconds_sum{{handler=\"/api/v1/resource{handler}\"}} 183.7521"),
        );
        line(
            &mut page,
            format_args!("http_request_duration_seconds_count{{handler=\"/api/v1/resource{handler}\"}} 996"),
        );
    }
    let rest = SERIES - HANDLERS * (CODES.len() + BOUNDS.len() + 2);
    for number in 0..rest {
        if number % FAMILY == 0 {
            let family = number / FAMILY;
            let _infallible = write!(
                page,
                "# HELP app_pool_{family}_connections_in_state Connections.\n# TYPE app_pool_{family}_connections_in_state gauge\n"
            );
        }
        line(
            &mut page,
            format_args!(
                "app_pool_{}_connections_in_state{{pool=\"db-{:03}\",state=\"idle\",zone=\"eu-1\"}} {}.5",
                number / FAMILY,
                number % FAMILY,
                number
            ),
        );
    }
    assert_eq!(series, SERIES);
    page
}

/// What a service without traffic might tell.
pub(crate) fn small_page() -> String {
    let mut page = String::from("# TYPE http_requests_total counter\n");
    for code in CODES {
        let _infallible = writeln!(page, "http_requests_total{{code=\"{code}\"}} 17");
    }
    page
}
