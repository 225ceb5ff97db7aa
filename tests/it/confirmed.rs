//! Triggers that ask more than one signal, and series that are renamed, through `rollbackd test` as an operator runs it.

use std::path::Path;
use std::process::Command;

const POLICY: &str = r#"
policy = """
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 5000 }
health = { port = 5000, path = "/health" }
warmup = "0s"
TRIGGERS
"""
interval = "15s"
"#;

/// Half an hour of v1, then half an hour of v2 with 40 % errors; what each health endpoint says, in promtool's notation.
fn series(healthy: &str, total: &str) -> String {
    let counter = |name: &str, revision: &str, code: &str, values: &str| {
        format!(
            "  {{ series = '{name}{{instance=\"{revision}\",revision=\"{revision}\",code=\"{code}\"}}', values = '{values}' }},\n"
        )
    };
    let plain = |name: &str, revision: &str, values: &str| {
        format!("  {{ series = '{name}{{instance=\"{revision}\",revision=\"{revision}\"}}', values = '{values}' }},\n")
    };
    [
        counter("http_requests_total", "v1", "200", "0+300x119 stale"),
        counter(total, "v2", "200", "_x120 0+180x120"),
        counter(total, "v2", "500", "_x120 0+120x120"),
        plain("up", "v1", "1x119 stale"),
        plain("up", "v2", "_x120 1x120"),
        plain("probe_success", "v1", "1x119 stale"),
        plain("probe_success", "v2", &format!("_x120 {healthy}")),
        plain("process_threads", "v1", "4x119 stale"),
        plain("process_threads", "v2", "_x120 4x120"),
    ]
    .concat()
}

fn test(dir: &Path, triggers: &str, series: &str, expect: &[&str]) -> (i32, String) {
    let expect: String = expect.iter().map(|line| format!("  {{ {line} }},\n")).collect();
    let text = POLICY.replace("TRIGGERS", triggers)
        + &format!("\n[[test]]\nname = \"it\"\nseries = [\n{series}]\nexpect = [\n{expect}]\n");
    std::fs::write(dir.join("suite.toml"), text).unwrap();
    let run =
        Command::new(env!("CARGO_BIN_EXE_rollbackd")).current_dir(dir).args(["test", "suite.toml"]).output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap() + &String::from_utf8(run.stderr).unwrap();
    (run.status.code().unwrap(), told)
}

/// Each line of `expect` is so.
fn holds(triggers: &str, series: &str, expect: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let (code, told) = test(dir.path(), triggers, series, expect);
    assert_eq!((code, told.as_str()), (0, "ok  suite.toml: it\n"));
}

const CONFIRMED: &str = r#"
[[workload.api.trigger]]
signal = "error_rate"
above = "10%"
for = "5m"
confirm_with = "health"
"#;

#[test]
fn what_the_second_signal_does_not_confirm_is_held_and_told() {
    let reason = "error_rate breaches, 40 % above 10 %, but health does not confirm: it is 0 % failing, not above 50 %";
    holds(
        CONFIRMED,
        &series("1x120", "http_requests_total"),
        &[
            "at = \"34m\", trigger = \"error rate\", state = \"pending\"",
            &format!(
                "at = \"45m\", trigger = \"error rate\", state = \"firing\", decision = \"hold\", hold = \"unconfirmed\", reason = \"{reason}\""
            ),
        ],
    );
}

#[test]
fn once_it_confirms_the_release_is_taken_back() {
    holds(
        CONFIRMED,
        &series("1x40 0x80", "http_requests_total"),
        &[
            "at = \"39m\", decision = \"hold\", hold = \"unconfirmed\"",
            "at = \"45m\", decision = \"rollback\", reason = \"40 %\"",
        ],
    );
}

#[test]
fn a_second_signal_that_is_not_known_confirms_nothing() {
    holds(
        CONFIRMED,
        &series("_x120", "http_requests_total"),
        &[
            "at = \"45m\", decision = \"hold\", hold = \"unconfirmed\", reason = \"health does not confirm: it is unknown\"",
        ],
    );
}

#[test]
fn all_and_any_of_several_signals() {
    let terms =
        "[{ signal = \\\"error_rate\\\", above = \\\"10%\\\" }, { signal = \\\"health\\\", above = \\\"50%\\\" }]";
    let triggers = format!(
        "[[workload.api.trigger]]\nname = \\\"both\\\"\nall = {terms}\nfor = \\\"2m\\\"\n\n\
         [[workload.api.trigger]]\nname = \\\"either\\\"\nany = {terms}\nfor = \\\"2m\\\"\nseverity = \\\"alert\\\"\n"
    );
    let triggers = triggers.replace("\\\"", "\"");
    let reason = "error_rate is 40 %, above 10 %, and health is 100 % failing, above 50 % for 2m";
    holds(
        &triggers,
        &series("1x40 0x80", "http_requests_total"),
        &[
            "at = \"39m\", trigger = \"both\", state = \"inactive\"",
            "at = \"39m\", trigger = \"either\", state = \"firing\", decision = \"alert\"",
            &format!(
                "at = \"50m\", trigger = \"both\", state = \"firing\", decision = \"rollback\", reason = \"{reason}\""
            ),
        ],
    );
}

const PLAIN: &str = r#"
[[workload.api.trigger]]
signal = "error_rate"
above = "10%"
for = "5m"
"#;

#[test]
fn a_renamed_series_is_named_with_what_came_in_its_place() {
    let reason = "`http_requests_total` is gone since v2; 1 family appeared: web_hits_total";
    holds(
        PLAIN,
        &series("1x120", "web_hits_total"),
        &[
            "at = \"29m\", decision = \"none\"",
            &format!(
                "at = \"45m\", trigger = \"blind\", decision = \"alert\", hold = \"blind\", reason = \"{reason}\""
            ),
        ],
    );
}

/// Client libraries offer a labelled series from the first request on; with none for long, it is told as gone.
#[test]
fn a_release_that_nothing_was_asked_of_yet_is_not_told_as_renamed() {
    let unasked = |from: usize| {
        let late = |rate: u32| format!("_x{} 0+{rate}x{}", 120 + from, 119 - from);
        let whole = series("1x120", "http_requests_total");
        whole.replace("_x120 0+180x120", &late(180)).replace("_x120 0+120x120", &late(120))
    };
    let gone = "`http_requests_total` is gone since v2; no family appeared";
    holds(
        PLAIN,
        &unasked(119),
        &[
            "at = \"34m30s\", decision = \"none\"",
            &format!("at = \"45m\", trigger = \"blind\", decision = \"alert\", hold = \"blind\", reason = \"{gone}\""),
        ],
    );
    holds(
        PLAIN,
        &unasked(16),
        &["at = \"38m\", decision = \"none\"", "at = \"45m\", trigger = \"error rate\", decision = \"rollback\""],
    );
}
