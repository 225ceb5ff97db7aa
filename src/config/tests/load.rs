//! What is read from disk, and how the command line and `check` see it.

use std::fs;
use std::path::Path;

use crate::config::{LoadError, Overrides, check, load};
use crate::domain::id::WorkloadId;
use crate::domain::policy::Mode;

const API: &str = "[workload.api]\nscrape.port = 80\nrelease_dir = { path = \"/srv/api\", unit = \"api.service\" }\n";
const WEB: &str = "[workload.web]\nscrape.port = 81\nmode = \"observe\"\nrelease_dir = { path = \"/srv/web\", unit = \"web.service\" }\n";

fn unreadable(path: &Path) -> String {
    match load(path, Overrides::default()) {
        Err(LoadError::Unreadable { path, source, .. }) => {
            format!("{}: {source}", path.file_name().unwrap().to_string_lossy())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_directory_is_one_configuration() {
    let directory = tempfile::tempdir().unwrap();
    assert!(unreadable(directory.path()).ends_with("there is no *.toml in the directory"));
    fs::write(directory.path().join("b.toml"), API).unwrap();
    fs::write(directory.path().join("a.toml"), format!("[daemon]\nmode = \"approve\"\n{WEB}")).unwrap();
    fs::write(directory.path().join("notes.txt"), "not a policy").unwrap();
    let config = load(directory.path(), Overrides::default()).unwrap();
    assert_eq!(config.workloads.len(), 2);
    assert_eq!(config.workloads[&WorkloadId::new("api")].policy.mode, Mode::Approve);
    let warning = "no `token_file` in [daemon]: nobody can pause, approve or reject what this daemon does";
    let expected = format!("warning: {}: {warning}\nok: 2 workloads, 0 receivers", directory.path().display());
    assert_eq!(check(&[directory.path()]).unwrap().to_string(), expected);
}

#[test]
fn hidden_files_of_a_directory_are_none_of_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("api.toml"), API).unwrap();
    // An editor's lock, and a copy that is not done yet.
    std::os::unix::fs::symlink("ops@host.1234", directory.path().join(".#api.toml")).unwrap();
    fs::write(directory.path().join(".api.toml"), "[workload").unwrap();
    assert_eq!(load(directory.path(), Overrides::default()).unwrap().workloads.len(), 1);
    // What was listed and is not there any more may be there again in a moment.
    std::os::unix::fs::symlink("gone", directory.path().join("web.toml")).unwrap();
    let gone = load(directory.path(), Overrides::default()).unwrap_err();
    assert!(gone.may_pass(), "{gone}");
    assert!(!load(&directory.path().join("web.toml"), Overrides::default()).unwrap_err().may_pass());
}

#[test]
fn only_what_may_act_and_can_not_be_stopped_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "secret").unwrap();
    let path = directory.path().join("x.toml");
    for (text, warned) in [
        (API.to_owned(), true),
        (format!("[daemon]\nmode = \"approve\"\n{API}"), true),
        (format!("[daemon]\nmode = \"observe\"\n{API}"), false),
        (WEB.to_owned(), false),
        (format!("[daemon]\ntoken_file = \"{}\"\n{API}", token.display()), false),
    ] {
        fs::write(&path, &text).unwrap();
        let report = check(&[&path]).unwrap();
        assert_eq!((report.valid, report.warnings.len()), (true, usize::from(warned)), "{text}\n{report}");
    }
}

#[test]
fn what_is_most_likely_not_meant_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let targets = directory.path().join("targets.json");
    let late = format!("{WEB}probation = \"1h\"\nknown_good_after = \"2h\"\n");
    let found_later = WEB.replace("scrape.port = 81", &format!("scrape.sd_file = \"{}\"", targets.display()));
    for (text, expected) in [
        (&late, "web: `known_good_after` of 2h is longer than `probation` of 1h".to_owned()),
        (&found_later, format!("web: `sd_file` {} does not exist", targets.display())),
    ] {
        fs::write(&path, text).unwrap();
        let report = check(&[&path]).unwrap();
        assert!(report.valid, "{report}");
        let [warning] = &report.warnings[..] else { panic!("one warning: {report}") };
        assert!(warning.contains(&expected), "{warning}");
    }
    fs::write(&targets, "[]").unwrap();
    assert_eq!(check(&[&path]).unwrap().warnings, [""; 0]);
}

#[test]
fn the_command_line_only_makes_it_stricter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    fs::write(&path, format!("[daemon]\nmode = \"approve\"\n{API}{WEB}")).unwrap();
    for (mode, api) in [(Mode::Enforce, Mode::Approve), (Mode::Approve, Mode::Approve), (Mode::Observe, Mode::Observe)]
    {
        let config = load(&path, Overrides { mode: Some(mode) }).unwrap();
        assert_eq!(config.workloads[&WorkloadId::new("api")].policy.mode, api, "--mode {mode}");
        assert_eq!(config.workloads[&WorkloadId::new("web")].policy.mode, Mode::Observe, "--mode {mode}");
    }
}

#[test]
fn what_can_not_be_read_is_told_from_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    assert!(unreadable(&path).contains("No such file"));
    fs::write(&path, b"# one\n# tw\xff\n").unwrap();
    assert_eq!(unreadable(&path), "x.toml: line 2 is not UTF-8 text: it has the byte 0xff");
    fs::write(&path, " ".repeat(4 * 1024 * 1024 + 1)).unwrap();
    assert_eq!(unreadable(&path), "x.toml: all policy files together may have 4 MiB");
}

#[test]
fn secrets_are_looked_at_beside_the_policy_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    fs::write(&path, format!("[daemon]\ntoken_file = \"token\"\n{API}")).unwrap();
    let report = check(&[&path]).unwrap();
    let token = directory.path().join("token");
    assert!(!report.valid);
    assert_eq!(report.errors.len(), 1);
    assert_eq!(report.errors[0].message, format!("`token_file`: {} does not exist", token.display()));
    fs::write(&token, "hunter2").unwrap();
    let config = load(&path, Overrides::default()).unwrap();
    assert_eq!(config.daemon.token_file.as_deref(), Some(&*token));
}

#[test]
fn a_secret_of_the_wrong_form_is_an_error_that_does_not_show_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let policy = format!(
        "{API}\n[notify.hook]\nwebhook = \"https://example.com/\"\nsecret_file = \"hook\"\n[notify.page]\nrouting_key_file = \"page\"\n\
         [notify.own]\npagerduty = \"https://pager.example.com/\"\nrouting_key_file = \"own\"\n[notify.chat]\nslack_file = \"chat\"\n"
    );
    fs::write(&path, policy).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    for (name, text) in
        [("hook", "whsec_hunter2"), ("page", "hunter2"), ("own", "hunter2 hunter2"), ("chat", "hunter2")]
    {
        write(name, text);
    }
    let report = check(&[&path]).unwrap();
    let found: Vec<_> = report.errors.iter().map(|error| (error.line, error.column, &*error.source)).collect();
    assert_eq!(
        found,
        [
            (7, 15, "secret_file = \"hook\""),
            (9, 20, "routing_key_file = \"page\""),
            (12, 20, "routing_key_file = \"own\""),
            (14, 14, "slack_file = \"chat\""),
        ]
    );
    assert!(report.errors.iter().all(|error| error.hint.is_some()), "{report}");
    let shown = format!("{report}{}", serde_json::to_string(&report).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(load(&path, Overrides::default()).is_err(), "the daemon does not start with it");
    write("hook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    write("page", "0123456789abcdef0123456789ABCDEF\n");
    write("own", "hunter2");
    write("chat", "https://hooks.slack.com/services/T0/B0/x\n");
    assert!(check(&[&path]).unwrap().to_string().ends_with("ok: 1 workload, 4 receivers"));
}

#[test]
fn a_secret_that_may_be_meant_otherwise_is_warned_of_and_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    let policy = format!("{WEB}\n[notify.hook]\nwebhook = \"https://example.com/\"\nsecret_file = \"hook\"\n");
    fs::write(&path, policy).unwrap();
    let hook = directory.path().join("hook");
    for (secret, expected) in [
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "has a secret that reads as base64: "),
        ("whsec_MfKQ9r8GKYo=", "has a key of 8 bytes: "),
    ] {
        fs::write(&hook, secret).unwrap();
        let report = check(&[&path]).unwrap();
        assert!(report.valid, "{report}");
        let [warning] = &report.warnings[..] else { panic!("one warning: {report}") };
        assert!(warning.contains(&format!("hook: `secret_file` {} {expected}", hook.display())), "{warning}");
        assert!(!warning.contains("MfKQ9"), "{warning}");
    }
    fs::write(&hook, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nas long a text as a key has to be\n").unwrap();
    assert_eq!(check(&[&path]).unwrap().warnings, [""; 0]);
}

#[test]
fn the_report_is_a_fact_sheet_for_machines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    fs::write(&path, "[daemon]\nmod = \"observe\"\n").unwrap();
    let report = serde_json::to_value(check(&[&path]).unwrap()).unwrap();
    let expected = serde_json::json!({
        "valid": false, "workloads": 0, "receivers": 0, "omitted": 0, "warnings": [],
        "errors": [{
            "file": path, "line": 2, "column": 1, "source": "mod = \"observe\"",
            "message": "unknown key `mod`", "hint": "did you mean `mode`?",
        }],
    });
    assert_eq!(report, expected);
}
