//! `rollbackd backtest` and `rollbackd test` as an operator runs them: recordings in, decisions and an exit code out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::prometheus::Prometheus;

const DAWN: u64 = 1_764_300_000;

const POLICY: &str = r#"
[workload.api]
kubernetes = { namespace = "prod", deployment = "api" }
scrape = { port = 5000 }
"#;

/// Bound on the start of Prometheus and on the first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An hour at 15 s: three pods of v1, replaced after half of it by three of v2 with these errors in 100 requests.
fn recording(errors: u64) -> String {
    let mut text = String::from("# TYPE http_requests counter\n");
    for (revision, from, to, errors) in [("v1", 0, 1_800, 0), ("v2", 1_800, 3_600, errors)] {
        for pod in 0..3 {
            for (code, share) in [(200, 100 - errors), (500, errors)] {
                let labels =
                    format!("instance=\"10.0.0.{pod}{revision}:5000\",revision=\"{revision}\",code=\"{code}\"");
                for (n, age) in (from..to).step_by(15).enumerate() {
                    let value = n as u64 * 3 * share;
                    writeln!(text, "http_requests_total{{{labels}}} {value} {}", DAWN + age).unwrap();
                }
            }
        }
    }
    text + "# EOF\n"
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_rollbackd")).current_dir(dir).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn stage() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("policy.toml"), POLICY);
    write(&dir.path().join("cases/bad/metrics.om"), &recording(40));
    write(&dir.path().join("cases/good/metrics.om"), &recording(0));
    write(&dir.path().join("cases/good/meta.json"), "{\"deploy_at\": \"1764301800\", \"old_version\": \"v1\"}");
    write(&dir.path().join("cases/notes/readme.txt"), "no case");
    dir
}

const HEADER: &str = "scenario,workload,trigger,fired_at,decision,reason";

#[test]
fn a_batch_tells_each_case_in_a_line() {
    let dir = stage();
    let (code, out, err) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", "cases", "--csv"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let lines: Vec<&str> = out.lines().collect();
    let [header, bad, good] = lines.as_slice() else { panic!("{out}") };
    assert_eq!(*header, HEADER);
    assert!(bad.starts_with("bad,api,error rate,2025-11-28T03:55:"), "{bad}");
    assert!(bad.contains("Z,rollback,") && bad.contains("back to v1"), "{bad}");
    assert_eq!(*good, "good,api,,,none,nothing fired");
}

#[test]
fn a_case_that_can_t_be_read_takes_nothing_from_the_others() {
    let dir = stage();
    write(&dir.path().join("cases/cut/metrics.om"), "http_requests_total 1 1764300000\n");
    write(&dir.path().join("cases/late/metrics.om"), &recording(0));
    write(&dir.path().join("cases/late/meta.json"), "{\"deploy_at\": \"soon\"}");
    let (code, out, err) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", "cases", "--csv"]);
    assert_eq!(code, 2, "{err}");
    let scenarios: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(scenarios, ["bad", "good"]);
    assert!(err.contains("cut/metrics.om") && err.contains("line 1") && err.contains("late/meta.json"), "{err}");
}

#[test]
fn a_folder_that_is_almost_a_case_is_named() {
    let dir = stage();
    write(&dir.path().join("cases/bare/meta.json"), "{}");
    write(&dir.path().join("cases/packed/metrics.om.gz"), "packed");
    let (code, out, err) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", "cases", "--csv"]);
    assert_eq!((code, out.lines().count()), (1, 3), "{out}{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(
        lines,
        [
            "rollbackd: warning: cases/bare is left out: it has meta.json, but no metrics.om, which is what is read",
            "rollbackd: warning: cases/packed is left out: it has metrics.om.gz, but no metrics.om, which is what is read",
        ]
    );
    let (code, _, err) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", "cases/packed"]);
    assert!(code == 2 && err.contains("it has metrics.om.gz") && err.contains("there is no metrics.om in"), "{err}");
}

#[test]
fn nothing_fired_is_a_success() {
    let dir = stage();
    for input in ["cases/good", "cases/good/metrics.om"] {
        let (code, out, _) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", input, "--csv"]);
        assert_eq!((code, out.as_str()), (0, format!("{HEADER}\ngood,api,,,none,nothing fired\n").as_str()));
    }
}

#[test]
fn several_files_are_one_recording_and_may_be_packed() {
    let dir = stage();
    let whole = recording(40);
    let (first, second) = whole.split_at(whole.find("revision=\"v2\"").unwrap());
    let cut = first.rfind('\n').unwrap() + 1;
    write(&dir.path().join("one.om"), &format!("{}# EOF\n", &first[..cut]));
    let rest = format!("{}{second}", &first[cut..]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(rest.as_bytes()).unwrap();
    std::fs::write(dir.path().join("two.om.gz"), packed.finish().unwrap()).unwrap();
    let decisions = |inputs: &[&str]| {
        let (code, out, err) =
            run(dir.path(), &[&["backtest", "--config", "policy.toml", "--csv", "--input"], inputs].concat());
        assert_eq!((code, err.as_str()), (1, ""));
        out.lines().nth(1).unwrap().split_once(',').unwrap().1.to_owned()
    };
    assert_eq!(decisions(&["one.om", "two.om.gz"]), decisions(&["cases/bad"]));
}

#[test]
fn what_can_t_be_read_is_said_with_file_and_line() {
    let dir = stage();
    write(&dir.path().join("short.om"), "http_requests_total 1 1764300000\n");
    for (args, expected) in [
        (["short.om"], "short.om is no recording in OpenMetrics text: line 1: the text does not end with # EOF"),
        (["absent.om"], "absent.om can't be read"),
        (["cases/notes"], "there is no metrics.om in cases/notes or its folders"),
    ] {
        let (code, out, err) =
            run(dir.path(), &[&["backtest", "--config", "policy.toml", "--input"], &args[..]].concat());
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn a_recording_of_something_else_is_a_wrong_use() {
    let dir = stage();
    write(&dir.path().join("none.om"), "# EOF\n");
    write(&dir.path().join("other.om"), "# TYPE other counter\nother_total 1 1764300000\n# EOF\n");
    for input in ["none.om", "other.om"] {
        let (code, out, err) = run(dir.path(), &["backtest", "--config", "policy.toml", "--csv", "--input", input]);
        let expected = format!("rollbackd: {input}: api: no series of the recording is about it\n");
        assert_eq!((code, out.as_str(), err), (2, "", expected));
    }
    let given = ["--rollout", "1764201800=v3", "--rollout", "1764301800=v2"];
    let args = [&["backtest", "--config", "policy.toml", "--csv", "--input", "cases/good"], given.as_slice()].concat();
    let (code, _, err) = run(dir.path(), &args);
    assert_eq!(code, 0);
    assert!(err.starts_with("rollbackd: warning: good: 2025-11-27T00:03:20.000Z, when v3 comes,"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

/// Files come as they were exported: a series backwards is the same series.
#[test]
fn the_order_of_the_points_of_a_series_is_no_matter() {
    let dir = stage();
    let text = recording(40);
    let mut backwards: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    backwards.reverse();
    write(&dir.path().join("backwards/bad/metrics.om"), &format!("{}\n# EOF\n", backwards.join("\n")));
    let told = |input: &str| run(dir.path(), &["backtest", "--config", "policy.toml", "--csv", "--input", input]);
    assert_eq!(told("backwards/bad"), told("cases/bad"));
}

#[test]
fn values_of_an_expression_that_are_not_recorded_are_named() {
    let dir = stage();
    let asked = format!(
        "[defaults]\nprometheus = \"http://127.0.0.1:1\"\n{POLICY}\n[workload.api.signal.busy]\npromql = \"busy\"\n\n\
         [[workload.api.trigger]]\nsignal = \"busy\"\nabove = 0.9\n"
    );
    write(&dir.path().join("asked.toml"), &asked);
    let (_, out, err) = run(dir.path(), &["backtest", "--config", "asked.toml", "--input", "cases/good"]);
    assert!(
        out.contains("nothing is known of busy: the recording has no rollbackd:query{signal=\"busy\"}"),
        "{out}{err}"
    );
}

/// Evaluated less often than pages were read: what is known of it is not stale until it is asked for again.
#[test]
fn an_expression_is_judged_at_the_pace_of_its_values() {
    let dir = stage();
    let asked = format!(
        "[defaults]\nprometheus = \"http://127.0.0.1:1\"\n{POLICY}\n[workload.api.signal.busy]\npromql = \"busy\"\n\n\
         [[workload.api.trigger]]\nname = \"busy\"\nsignal = \"busy\"\nabove = 0.9\nfor = \"3m\"\n"
    );
    write(&dir.path().join("asked.toml"), &asked);
    let fired_at = |step: u64| {
        let mut text = recording(0).replace("# EOF\n", "");
        for age in (0..3_600).step_by(usize::try_from(step).unwrap()) {
            let value = if age < 2_400 { 0.5 } else { 0.95 };
            writeln!(text, "rollbackd:query{{signal=\"busy\"}} {value} {}", DAWN + age).unwrap();
        }
        write(&dir.path().join("asked.om"), &(text + "# EOF\n"));
        let args = ["backtest", "--config", "asked.toml", "--input", "asked.om", "--json"];
        let (_, out, err) = run(dir.path(), &args);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        let fired = json[0]["decisions"][0]["fired_at"].as_str();
        let fired: jiff::Timestamp = fired.unwrap_or_else(|| panic!("every {step} s: {out}{err}")).parse().unwrap();
        u64::try_from(fired.as_second()).unwrap() - DAWN
    };
    for step in [15, 45, 60, 120] {
        let fired = fired_at(step);
        assert!((2_400 + 180..=2_400 + 180 + 2 * step).contains(&fired), "every {step} s it fires at {fired} s");
    }
}

#[test]
fn other_settings_and_plots_are_of_the_same_points() {
    let dir = stage();
    let base = ["backtest", "--config", "policy.toml", "--input", "cases", "--plot", "plots", "--sweep", "for=1m..10m"];
    let (code, out, _) = run(dir.path(), &[&base[..], &["--json"]].concat());
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sweep = json[0]["sweep"].as_array().unwrap();
    let firsts: Vec<&str> = sweep.iter().map(|line| line["first_rollback"].as_str().unwrap()).collect();
    assert_eq!(firsts.len(), 10);
    assert!(firsts.windows(2).all(|pair| pair[0] < pair[1]), "a longer hold decides later: {firsts:?}");
    assert_eq!(json[0]["decisions"][0]["fired_at"], firsts[4]);
    let page = std::fs::read_to_string(dir.path().join("plots/bad.html")).unwrap();
    assert!(page.contains("<polyline") && page.contains(">rollback<") && page.contains(">fires<"), "{page}");
    assert!(dir.path().join("plots/good.html").exists());
}

#[test]
fn recordings_of_one_name_are_told_apart() {
    let dir = stage();
    write(&dir.path().join("more/bad/metrics.om"), &recording(0));
    let base = ["backtest", "--config", "policy.toml", "--input", "cases", "more", "--plot", "plots", "--csv"];
    let (code, out, err) = run(dir.path(), &base);
    assert_eq!((code, err.as_str()), (1, ""));
    let names: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names, ["cases/bad", "good", "more/bad"]);
    let page = |name: &str| std::fs::read_to_string(dir.path().join("plots").join(name)).unwrap();
    assert!(page("cases_bad.html").contains(">rollback<") && page("more_bad.html").contains("Nothing fired."));
    assert!(page("good.html").contains("Nothing fired."));
    let twice = ["backtest", "--config", "policy.toml", "--input", "cases", "cases", "--plot", "plots"];
    let (code, out, err) = run(dir.path(), &twice);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("--plot: two recordings would be drawn as plots/cases_bad.html"), "{err}");
}

/// A line a decision has no place for them.
#[test]
fn other_settings_are_no_lines_of_decisions() {
    let dir = stage();
    let base = ["backtest", "--config", "policy.toml", "--input", "cases", "--csv", "--sweep", "for=1m..10m"];
    let (code, out, err) = run(dir.path(), &base);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("'--csv' cannot be used with '--sweep <KEY=FROM..TO>'"), "{err}");
}

/// A comparison that decides first hides no effect of the setting on the triggers that it fits.
#[test]
fn a_sweep_tells_each_trigger_that_its_setting_fits() {
    let dir = stage();
    let first = "[[workload.api.trigger]]\nsignal = \"error_rate\"\nabove = \"1%\"\nfor = \"0s\"\nname = \"at once\"\n";
    let second = "[[workload.api.trigger]]\nsignal = \"error_rate\"\nabove = \"10%\"\nfor = \"5m\"\nname = \"held\"\n";
    write(&dir.path().join("policy.toml"), &format!("{POLICY}\n{first}\n{second}"));
    let base = ["backtest", "--config", "policy.toml", "--input", "cases", "--sweep", "for=1m..10m"];
    let (_, out, _) = run(dir.path(), &[&base[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let sweep = json[0]["sweep"].as_array().unwrap();
    let text = |line: &serde_json::Value| line.as_str().unwrap().to_owned();
    let decided: Vec<String> = sweep.iter().map(|line| text(&line["first_rollback"])).collect();
    assert!(decided.windows(2).all(|pair| pair[0] == pair[1]), "the other one decides: {decided:?}");
    let own: Vec<(String, String)> = sweep
        .iter()
        .map(|line| match line["triggers"].as_array().unwrap().as_slice() {
            [only] => (text(&only["trigger"]), text(&only["first_fired"])),
            several => panic!("{several:?}"),
        })
        .collect();
    assert!(own.iter().all(|(name, _)| name == "held"), "{own:?}");
    assert!(own.windows(2).all(|pair| pair[0].1 < pair[1].1), "a longer hold fires later: {own:?}");
    let (_, out, _) = run(dir.path(), &base);
    let row = out.lines().find(|line| line.contains("for = 5m")).unwrap();
    let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!((cells[0], cells[1], cells[6], cells[7]), ("for = 5m", "1", "held", "1"), "{row}");
}

/// How long it was bad is no less because it was acted on.
#[test]
fn a_breach_goes_on_after_it_has_fired() {
    let dir = stage();
    let args = ["backtest", "--config", "policy.toml", "--input", "cases/bad"];
    let (_, out, _) = run(dir.path(), &args);
    let is_its = |line: &str| line.contains("above 10 %") && line.contains("  29m");
    assert!(out.lines().any(is_its), "{out}");
}

/// A job that waits for the rollout to end writes down when it ended.
#[test]
fn a_time_of_a_rollout_that_comes_after_its_instances_is_doubted() {
    let dir = stage();
    let untold = recording(40).replace(",revision=\"v1\"", "").replace(",revision=\"v2\"", "");
    write(&dir.path().join("late/metrics.om"), &untold);
    let told = |late: u64| {
        let meta = format!("{{\"deploy_at\": {}, \"new_version\": \"v2\"}}", DAWN + 1_800 + late);
        write(&dir.path().join("late/meta.json"), &meta);
        run(dir.path(), &["backtest", "--config", "policy.toml", "--csv", "--input", "late"]).2
    };
    assert_eq!((told(0), told(45), told(700)), (String::new(), String::new(), String::new()));
    let expected = "rollbackd: warning: late: api: 2025-11-28T03:52:00.000Z, when v2 comes, may be late: 10.0.0.0v2:5000 \
                    appeared or was started 2m before it, and nothing after\n";
    assert_eq!(told(120), expected);
}

/// Any moment is explained by the evaluator that decided at it, in the policy's own mode.
#[test]
fn any_moment_of_a_recording_is_explained() {
    let dir = stage();
    let explain = |input: &str, at: &str, more: &[&str]| {
        let args = ["backtest", "--config", "policy.toml", "--input", input, "--explain", at];
        run(dir.path(), &[&args[..], more].concat())
    };
    let (code, out, err) = explain("cases/bad", "2025-11-28T03:53:20Z", &[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let told = "api at 2025-11-28T03:53:20.000Z: suspected: \"error rate\": error_rate is 40 %, above 10 % for 5m";
    assert!(out.starts_with(told), "{out}");
    for part in ["38.39 % to 41.62 %", "GUARD", "\"error rate\" fires once breached for 5m (3m3s so far)", "passes"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("observe-mode: "), "{out}");
    let (_, out, _) = explain("cases/bad", &(DAWN + 2_400).to_string(), &[]);
    let decided = out.lines().next().unwrap();
    assert!(decided.contains(": rollback at 2025-11-28T03:55:") && decided.ends_with(": back to v1"), "{out}");
    let (code, out, _) = explain("cases", &(DAWN + 2_000).to_string(), &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told = |index: usize, key: &str| json[index][key].as_str().unwrap().to_owned();
    assert_eq!((code, told(0, "scenario"), told(1, "scenario")), (0, "bad".to_owned(), "good".to_owned()));
    assert_eq!(told(1, "decision"), "nothing is done: no trigger is pending or firing");
    assert_eq!(json[0]["assessment"]["triggers"][0]["state"], "pending", "{}", json[0]["assessment"]);
    assert!(json[0]["guards"].as_array().unwrap().len() > 20 && json[0]["would_change"].is_array());
    let is_asked = |name: &str| json[0]["guards"].as_array().unwrap().iter().any(|guard| guard["name"] == name);
    assert!(is_asked("fleet-budget") && !is_asked("in-flight"), "{out}");
    for (at, expected) in [
        ("2025-11-28T05:00:00Z", "is not in the recording from 2025-11-28T03:20:00.000Z to"),
        ("noon", "--explain \"noon\" is no time: write 2026-01-31T12:00:00Z or seconds"),
    ] {
        let (code, out, err) = explain("cases/bad", at, &[]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(expected), "{err}");
    }
    let (_, out, _) = run(dir.path(), &["explain", "--help"]);
    assert!(out.contains("\nrollbackd backtest --explain TIME"), "{out}");
}

#[test]
fn a_label_splits_a_recording_by_workload() {
    let dir = stage();
    let named =
        |errors, name| recording(errors).replace("code=", &format!("app=\"{name}\",code=")).replace("# EOF\n", "");
    write(&dir.path().join("two.om"), &format!("{}{}# EOF\n", named(40, "shop"), named(0, "web")));
    let args = ["backtest", "--config", "policy.toml", "--input", "two.om", "--workload-label", "app", "--csv"];
    let (code, out, _) = run(dir.path(), &args);
    assert_eq!(code, 1);
    let starts: Vec<String> =
        out.lines().skip(1).map(|line| line.split(',').take(3).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(starts, ["two,shop,error rate", "two,web,"]);
}

#[tokio::test]
async fn a_server_with_the_same_samples_gives_the_same_decision() {
    let dir = stage();
    let blocks = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics", "cases/bad/metrics.om", "data"])
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|error| panic!("promtool can't be run ({error}): apt-get install prometheus"));
    assert!(blocks.status.success(), "{blocks:?}");
    rollbackd::net::tls::install();
    let prometheus = Prometheus::start(dir.path());
    let begun = Instant::now();
    let ready = format!("{}/-/ready", prometheus.url);
    while !reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(begun.elapsed() < PATIENCE, "Prometheus does not become ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tail = |out: &str| out.lines().nth(1).unwrap().split_once(',').unwrap().1.to_owned();
    let (from, to) = (DAWN.to_string(), (DAWN + 3_600).to_string());
    let args =
        ["backtest", "--config", "policy.toml", "--csv", "--prometheus", &prometheus.url, "--from", &from, "--to", &to];
    let (code, served, err) = run(dir.path(), &args);
    assert_eq!((code, err.as_str()), (1, ""), "{served}");
    let (_, read, _) = run(dir.path(), &["backtest", "--config", "policy.toml", "--csv", "--input", "cases/bad"]);
    assert_eq!(tail(&served), tail(&read));
}

/// What Prometheus' own rule says at one time of a pending or firing alert.
fn rule_fires(dir: &Path, at: u64) -> bool {
    let rule = "groups: [{ name: g, rules: [{ alert: Errors, for: 5m, expr: 'sum(rate(http_requests_total{code=\"500\",revision=\"v2\"}[1m])) / sum(rate(http_requests_total{revision=\"v2\"}[1m])) > 0.1' }] }]\n";
    write(&dir.join("rules.yml"), rule);
    // The recording of `recording(40)`, in promtool's own notation: v2 from its half hour on.
    let series = |code: &str, step: u64| {
        format!("{{ series: 'http_requests_total{{revision=\"v2\",code=\"{code}\"}}', values: '_x120 0+{step}x119' }}")
    };
    let test = format!(
        "rule_files: [rules.yml]\nevaluation_interval: 5s\ntests: [{{ interval: 15s, input_series: [{}, {}], alert_rule_test: \
         [{{ eval_time: {at}s, alertname: Errors, exp_alerts: [{{ exp_labels: {{}} }}] }}] }}]\n",
        series("200", 180),
        series("500", 120)
    );
    write(&dir.join("rules_test.yml"), &test);
    let run = Command::new("promtool").args(["test", "rules", "rules_test.yml"]).current_dir(dir).output();
    run.unwrap_or_else(|error| panic!("promtool can't be run ({error}): apt-get install prometheus")).status.success()
}

#[test]
fn a_breach_must_hold_as_long_as_for_a_rule_of_prometheus() {
    let dir = stage();
    let (_, out, _) = run(dir.path(), &["backtest", "--config", "policy.toml", "--input", "cases/bad", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let fired: jiff::Timestamp = json[0]["decisions"][0]["fired_at"].as_str().unwrap().parse().unwrap();
    let fired = u64::try_from(fired.as_second()).unwrap() - DAWN;
    let first = (fired - 60..fired + 60).find(|at| at % 5 == 0 && rule_fires(dir.path(), *at)).expect("the rule fires");
    assert!(fired.abs_diff(first) <= 15, "fired at {fired} s, where Prometheus' rule fires at {first} s");
}

const TESTS: &str = r#"
policy_file = "policy.toml"
interval = "15s"

[[test]]
name = "errors of the new version take it back"
series = [
  { series = 'http_requests_total{instance="a",revision="v1",code="200"}', values = '0+300x79 stale' },
  { series = 'http_requests_total{instance="b",revision="v2",code="200"}', values = '_x80 0+180x60' },
  { series = 'http_requests_total{instance="b",revision="v2",code="500"}', values = '_x80 0+120x60' },
]
expect = [
  { at = "10m", trigger = "error rate", state = "inactive", decision = "none", release = "v1" },
  { at = "22m", trigger = "error rate", state = "pending", release = "v2" },
  { at = "27m", trigger = "error rate", state = "firing", decision = "rollback", reason = "40 %" },
]
"#;

#[test]
fn tests_of_a_policy_pass_or_say_what_is_otherwise() {
    let dir = stage();
    write(&dir.path().join("right.toml"), TESTS);
    assert_eq!(
        run(dir.path(), &["test", "right.toml"]),
        (0, "ok  right.toml: errors of the new version take it back\n".to_owned(), String::new())
    );
    let wrong = TESTS.replace("decision = \"rollback\"", "decision = \"hold\"").replace("\"pending\"", "\"firing\"");
    write(&dir.path().join("wrong.toml"), &wrong);
    let (code, out, _) = run(dir.path(), &["test", "wrong.toml"]);
    let lines: Vec<&str> = out.lines().collect();
    let [head, pending, decision] = lines.as_slice() else { panic!("{out}") };
    assert_eq!((code, *head), (1, "FAILED  wrong.toml: errors of the new version take it back"));
    assert!(pending.starts_with("    at 22m \"error rate\": expected firing, is pending for 1m"), "{pending}");
    assert!(
        decision.starts_with("    at 27m \"error rate\": expected the decision hold, is rollback at 25m"),
        "{decision}"
    );
}

#[test]
fn a_file_of_tests_that_makes_no_sense_is_a_wrong_use() {
    let dir = stage();
    for (text, expected) in [
        ("policy_file = \"policy.toml\"\n", "there is no [[test]] in it"),
        ("[[test]]\nname = \"a\"\n", "one of `policy_file` and `policy` says which policy is tested"),
        ("policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\nexpected = []\n", "unknown field `expected`"),
        (
            "policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\nexpect = [{ at = '1m' }]\n\
             series = [{ series = 'a', values = '1+x' }]\n",
            "odd.toml:5:36: \"a\": series \"a\": \"1+x\" is no value",
        ),
        (
            "policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\nexpect = [{ at = '1m' }]\n\
             series = [{ series = 'a{x=\"1\",y=\"1\",x=\"2\"}', values = '1' }]\n",
            "odd.toml:5:22: \"a\": series \"a{x=\\\"1\\\",y=\\\"1\\\",x=\\\"2\\\"}\": it has the label \"x\" twice",
        ),
        ("policy_file = \"policy.toml\"\n\n[[test]]\nname = \"a\"\n", "odd.toml:3:1: \"a\": it expects nothing"),
        (
            "policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\n\
             series = [{ series = 'a', values = '1x9' }]\n\
             expect = [{ at = '30s', trigger = 'blind', decision = 'none' },\n\
             { at = '30s', trigger = 'eror rate', decision = 'none' }]\n",
            "odd.toml:6:1: \"a\": the policy has no trigger \"eror rate\": it has \"error rate\", ",
        ),
        (
            "policy_file = \"policy.toml\"\ninterval = \"10s\"\n[[test]]\nname = \"a\"\n\
             series = [{ series = 'a', values = '1x6' }]\n\
             expect = [{ at = '1m', decision = 'none' }, { at = '2m', decision = 'none' }]\n",
            "odd.toml:6:45: \"a\": nothing is judged at 2m: the series end at 1m",
        ),
        (
            "policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\n\
             series = [{ series = 'a', values = '1x9' }]\n\
             expect = [{ at = '30s', decision = 'none' },\n\
             { at = '1m', trigger = 'error rate' }]\n",
            "odd.toml:6:1: \"a\": nothing is expected at 1m, so that it could never fail: write `state`, `decision`, `reason`, \
             `hold` or `release`",
        ),
        (
            "policy_file = \"policy.toml\"\n[[test]]\nname = \"a\"\nexpect = [{ at = '30s', decision = 'none' }]\n\
             series = [{ series = 'a{x=\"1\",y=\"1\"}', values = '1x9' },\n\
             { series = 'a{y=\"1\",x=\"1\"}', values = '1x9' }]\n",
            "odd.toml:6:12: \"a\": series \"a{y=\\\"1\\\",x=\\\"1\\\"}\": the test has it twice",
        ),
        (
            "policy_file = \"policy.toml\"\ninterval = \"10s\"\n[[test]]\nname = \"a\"\n\
             series = [{ series = 'a', values = '1x6' }]\n\
             rollout = [{ at = '1m', revision = 'v1' },\n{ at = '61s', revision = 'v2' }]\n\
             expect = [{ at = '1m', decision = 'none' }]\n",
            "odd.toml:7:1: \"a\": \"v2\" would come at 1m1s: the series end at 1m",
        ),
    ] {
        write(&dir.path().join("odd.toml"), text);
        let (code, _, err) = run(dir.path(), &["test", "odd.toml"]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(expected), "{err}");
    }
}
