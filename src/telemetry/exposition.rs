//! In which of two dialects own metrics are told, and the older one made from the newer.
//!
//! The encoder writes OpenMetrics. Text format 0.0.4 differs from it in few things: it has no end mark, no units and no
//! exemplars, knows fewer types, and describes a family under the very name that its samples have.

use std::fmt::Write;

/// What one family's samples are called after it, and what the text format calls its type.
struct Kind {
    suffix: &'static str,
    word: &'static str,
}

/// How own metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4, which every reader of metrics knows.
    Text,
}

impl Exposition {
    /// What an `Accept` header asks for, by weight and then in its order; the text format where it names neither.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut ranges: Vec<(f32, Self)> = accept.split(',').filter_map(range).collect();
        ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranges.first().map_or(Exposition::Text, |(_, exposition)| *exposition)
    }

    /// What goes into `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// An OpenMetrics page in this dialect.
    pub(super) fn of(self, openmetrics: String) -> String {
        match self {
            Exposition::OpenMetrics => openmetrics,
            Exposition::Text => text(&openmetrics),
        }
    }
}

/// One range of an `Accept` header and its weight; `None` where it is refused, or is nothing that is written here.
fn range(range: &str) -> Option<(f32, Exposition)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut weight, mut version) = (1.0_f32, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim() {
            "q" => weight = value.trim().parse().ok()?,
            "version" => version = Some(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    let exposition = match (media.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => Exposition::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Exposition::Text,
        _ => return None,
    };
    (weight > 0.0).then_some((weight, exposition))
}

/// An OpenMetrics page in text format 0.0.4.
fn text(openmetrics: &str) -> String {
    let mut page = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        match line.strip_prefix("# ").map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            // What a family is called depends on its type, which is told after its help.
            Some(("HELP", rest)) => help = rest.split_once(' ').map(|(_, help)| help),
            Some(("TYPE", rest)) => describe(&mut page, rest, help.take()),
            Some(_) => {}
            None => {
                page.push_str(without_exemplar(line));
                page.push('\n');
            }
        }
    }
    page
}

fn describe(page: &mut String, family: &str, help: Option<&str>) {
    let Some((name, kind)) = family.split_once(' ') else { return };
    let Kind { suffix, word } = match kind {
        "counter" => Kind { suffix: "_total", word: "counter" },
        "gauge" | "stateset" => Kind { suffix: "", word: "gauge" },
        "histogram" => Kind { suffix: "", word: "histogram" },
        "info" => Kind { suffix: "_info", word: "gauge" },
        "summary" => Kind { suffix: "", word: "summary" },
        _ => Kind { suffix: "", word: "untyped" },
    };
    // A `String` takes every write.
    if let Some(help) = help {
        let _ = writeln!(page, "# HELP {name}{suffix} {help}");
    }
    let _ = writeln!(page, "# TYPE {name}{suffix} {word}");
}

/// A sample without what follows ` # `, where that is not within a label's value.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..at].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_weighs_most() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prefers_text = "text/plain;version=0.0.4;q=0.9, application/openmetrics-text; version=1.0.0; q=0.5";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.2";
        for (accept, expected) in [
            ("", Exposition::Text),
            ("*/*", Exposition::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Exposition::Text),
            ("text/plain;version=0.0.4", Exposition::Text),
            ("application/openmetrics-text", Exposition::OpenMetrics),
            ("Application/OpenMetrics-Text; version=\"1.0.0\"", Exposition::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Exposition::Text),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Exposition::Text),
            ("application/openmetrics-text;q=x", Exposition::Text),
            ("application/openmetrics-text,text/plain", Exposition::OpenMetrics),
            (crate::observe::exposition::ACCEPT, Exposition::OpenMetrics),
            (prometheus_2, Exposition::OpenMetrics),
            (prometheus_3, Exposition::OpenMetrics),
            (prefers_text, Exposition::Text),
            (protobuf, Exposition::OpenMetrics),
        ] {
            assert_eq!(Exposition::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn each_type_becomes_what_the_text_format_calls_it() {
        let openmetrics = "\
# HELP a_build The version.
# TYPE a_build info
a_build_info{version=\"1\"} 1
# HELP a_cpu_seconds Time.
# TYPE a_cpu_seconds counter
# UNIT a_cpu_seconds seconds
a_cpu_seconds_total{path=\"/ # \\\"x\\\"\"} 1.5 # {trace=\"y\"} 1
# TYPE a_wait_seconds histogram
# UNIT a_wait_seconds seconds
a_wait_seconds_bucket{le=\"+Inf\"} 2 # {trace=\"y\"} 0.5 17.5
a_wait_seconds_sum 3.0
a_wait_seconds_count 2
# HELP a_level How full.
# TYPE a_level gauge
a_level 3
# TYPE a_thing unknown
a_thing 4
# EOF
";
        let expected = "\
# HELP a_build_info The version.
# TYPE a_build_info gauge
a_build_info{version=\"1\"} 1
# HELP a_cpu_seconds_total Time.
# TYPE a_cpu_seconds_total counter
a_cpu_seconds_total{path=\"/ # \\\"x\\\"\"} 1.5
# TYPE a_wait_seconds histogram
a_wait_seconds_bucket{le=\"+Inf\"} 2
a_wait_seconds_sum 3.0
a_wait_seconds_count 2
# HELP a_level How full.
# TYPE a_level gauge
a_level 3
# TYPE a_thing untyped
a_thing 4
";
        assert_eq!(Exposition::Text.of(openmetrics.to_owned()), expected);
        assert_eq!(Exposition::OpenMetrics.of(openmetrics.to_owned()), openmetrics);
    }
}
