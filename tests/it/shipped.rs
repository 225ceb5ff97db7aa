//! What is shipped beside the binary, held against the programs that will read it: units by systemd, rules by Prometheus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const UNIT: &str = "rollbackd.service";
const DROP_INS: &str = "rollbackd.service.d";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program of the Debian package that is named when it is missing.
fn run(package: &str, program: &str, arguments: &[&str]) -> Output {
    let missing =
        |error| panic!("{program}: {error}; it comes with `apt-get install --no-install-recommends {package}`");
    Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap_or_else(missing)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The unit with some of its drop-ins, as installed, but for the place of the binary.
fn installed(drop_ins: &[&str]) -> (TempDir, String) {
    let from = root().join("systemd");
    let to = TempDir::new().unwrap();
    let unit = fs::read_to_string(from.join(UNIT)).unwrap();
    let here = unit.replace("=/usr/bin/rollbackd ", concat!("=", env!("CARGO_BIN_EXE_rollbackd"), " "));
    assert_ne!(unit, here, "the unit starts /usr/bin/rollbackd");
    fs::write(to.path().join(UNIT), here).unwrap();
    fs::create_dir(to.path().join(DROP_INS)).unwrap();
    for name in drop_ins {
        fs::copy(from.join(DROP_INS).join(name), to.path().join(DROP_INS).join(name)).unwrap();
    }
    let unit = to.path().join(UNIT).display().to_string();
    (to, unit)
}

/// What `systemd-analyze verify` has to say about the unit or its drop-ins.
fn complaints(unit: &str) -> Vec<String> {
    let output = run("systemd", "systemd-analyze", &["verify", "--man=no", "--recursive-errors=no", unit]);
    let text = text(&output);
    let ours: Vec<String> = text.lines().filter(|line| line.contains("rollbackd")).map(str::to_owned).collect();
    assert!(output.status.success() || !ours.is_empty(), "systemd-analyze verify: {text}");
    ours
}

#[test]
fn the_unit_is_valid_and_exposed_as_little_as_promised() {
    // The bar in tenths, as `--threshold` takes it.
    let cases: [(&[&str], &str); 4] = [
        (&[], "15"),
        (&["release-dir.conf"], "20"),
        (&["hooks.conf"], "20"),
        (&["release-dir.conf", "hooks.conf"], "20"),
    ];
    for (drop_ins, bar) in cases {
        let (_directory, unit) = installed(drop_ins);
        assert_eq!(complaints(&unit), [""; 0], "{drop_ins:?}");
        let threshold = format!("--threshold={bar}");
        let output =
            run("systemd", "systemd-analyze", &["security", "--no-pager", "--offline=true", &threshold, &unit]);
        let text = text(&output);
        assert!(text.contains("Overall exposure level for rollbackd.service"), "{text}");
        assert!(output.status.success(), "{drop_ins:?} is over {bar} tenths:\n{text}");
    }
}

#[test]
fn every_drop_in_is_among_those_checked() {
    let mut names: Vec<_> =
        fs::read_dir(root().join("systemd").join(DROP_INS)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["hooks.conf", "release-dir.conf"]);
}

#[test]
fn a_wrong_unit_would_be_found() {
    let (directory, unit) = installed(&[]);
    fs::write(directory.path().join(DROP_INS).join("typo.conf"), "[Service]\nWatchdogSecs=30s\n").unwrap();
    let found = complaints(&unit);
    assert!(found.iter().any(|line| line.contains("WatchdogSecs")), "{found:?}");
    fs::write(directory.path().join(DROP_INS).join("typo.conf"), "[Service]\nSystemCallFilter=\nPrivateUsers=no\n")
        .unwrap();
    let output =
        run("systemd", "systemd-analyze", &["security", "--no-pager", "--offline=true", "--threshold=15", &unit]);
    assert!(!output.status.success(), "{}", text(&output));
}

#[test]
fn the_alerts_about_the_daemon_fire_when_they_should() {
    let folder = root().join("config/prometheus");
    let rules = folder.join("rollbackd.rules.yml");
    let output = run("prometheus", "promtool", &["check", "rules", &rules.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    let tests = folder.join("rollbackd.rules.test.yml");
    let output = run("prometheus", "promtool", &["test", "rules", &tests.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    let names = |file: &Path, key: &str| -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let found = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        found.map(|name| name.trim().to_owned()).collect()
    };
    let tested = names(&tests, "alertname:");
    let alerts = names(&rules, "alert:");
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(tested.contains(&alert), "{alert} has no test");
    }
}

/// The fenced blocks of the README in one language.
fn blocks(language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_policies_of_the_readme_are_valid() {
    let policies = blocks("toml");
    assert!(policies.len() > 1, "{policies:?}");
    for policy in policies {
        let read = rollbackd::config::parse(&[(PathBuf::from("README.md"), policy)]);
        assert!(read.is_ok(), "{}", read.unwrap_err());
    }
}

#[test]
fn the_readme_names_the_commands_and_files_that_there_are() {
    let commands = blocks("sh").join("\n");
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(commands.lines().any(|line| line == command), "{command}");
    }
    let gate = fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(gate.lines().any(|line| line == "tests='cargo test'"), "the gate runs what the README names");
    let packages = gate.lines().find_map(|line| line.strip_prefix("packages=(")?.strip_suffix(')')).unwrap();
    assert!(commands.contains(&format!("--no-install-recommends {packages}\n")), "{packages}");
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let links: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 3, "{links:?}");
    for link in links {
        assert!(root().join(link).exists(), "{link}");
    }
}
