//! The demonstration: what the README's first command shows, on the binary that it runs.

use std::process::Command;

use serde_json::Value;

/// Runs one story to its end and hands back its last line.
fn story(arguments: &[&str]) -> Value {
    let told =
        Command::new(env!("CARGO_BIN_EXE_rollbackd")).arg("demo").args(arguments).arg("--json").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{}\n{out}\n{err}", told.status);
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

#[test]
fn the_default_story_ends_well() {
    assert_eq!(story(&[])["outcome"], "restored");
}

#[test]
fn a_slow_release_is_taken_back_at_once() {
    assert_eq!(story(&["--strategy", "direct", "--fault", "latency"])["outcome"], "restored");
}
