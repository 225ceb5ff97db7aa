//! The demonstration: what the README's first command shows, on the binary that it runs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
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

#[test]
fn what_is_kept_says_how_it_ended_and_where_it_answers() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_rollbackd"))
        .args(["demo", "--keep", "--json", "--strategy", "direct"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut objects = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let last = objects.find(|object| !object["outcome"].is_null()).unwrap();
    assert_eq!(last["outcome"], "restored", "{last:#}");
    let address = last["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    assert!(std::net::TcpStream::connect(&address).is_ok(), "it answers at {address}");
    kill_process(Pid::from_raw(demo.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    assert!(demo.wait().unwrap().success(), "the service was restored");
    assert!(std::net::TcpStream::connect(&address).is_err(), "nothing is left at {address}");
}
