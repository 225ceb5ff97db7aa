//! The journal of a process that is killed: whatever was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use rollbackd::domain::id::{ReceiverName, RevisionId, WorkloadId};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::time::Timestamp;
use rollbackd::engine::ports::{Batch, Journal, Notice, Outbox};
use rollbackd::store::{JOURNAL_FILE, LOCK_FILE, Store};

use crate::alert::alert;

/// Tells the test binary that it is the process to be killed, and where its journal is.
const CHILD: &str = "ROLLBACKD_TEST_JOURNAL";

/// Commits until killed, and says on standard output how far it was acknowledged.
#[test]
fn writer_to_be_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&dir)).unwrap();
        let folded = store.reader().fold().await.unwrap();
        let mut sequence = folded.first().map_or(0, |(_, state)| state.as_ref().unwrap().sequence);
        loop {
            sequence += 1;
            store.commit(batch(sequence)).await.unwrap();
            println!("acknowledged {sequence}");
            std::io::stdout().flush().unwrap();
        }
    });
}

fn batch(sequence: u64) -> Batch {
    let record = Record {
        workload: WorkloadId::new("api"),
        sequence,
        incident: None,
        at: Timestamp::from_millis(sequence.cast_signed()),
        event: Event::ReleaseObserved {
            revision: RevisionId::new(format!("v{sequence}")),
            // Larger than a page, so that a kill in the middle of a commit has a middle to hit.
            image: Some("x".repeat(5000)),
            previous: None,
            by_rollback: false,
            older_faults: Vec::new(),
            instances: [].into(),
        },
    };
    let receivers = vec![ReceiverName::new("oncall")];
    Batch { records: vec![record], notices: vec![Notice { alert: alert("api-1", sequence), receivers }] }
}

#[test]
fn whatever_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut acknowledged = 0;
    for round in 1..=10 {
        acknowledged = commit_and_kill(dir.path(), acknowledged + 3 * round).max(acknowledged);
        runtime.block_on(async {
            let store = Store::open(dir.path()).unwrap();
            let records = store.reader().records(&WorkloadId::new("api"), usize::MAX).await.unwrap();
            let kept = records.len() as u64;
            assert!(kept >= acknowledged, "round {round}: {kept} kept, {acknowledged} acknowledged");
            assert!(kept <= acknowledged + 1, "round {round}: {kept} kept, {acknowledged} acknowledged");
            let expected: Vec<Record> = (1..=kept).flat_map(|n| batch(n).records).collect();
            assert_eq!(records, expected, "round {round}");
            // A record and its message go together.
            assert_eq!(store.reader().outbox().await.unwrap().waiting, kept, "round {round}");
            let due = store.due(&ReceiverName::new("oncall"), Timestamp::from_millis(i64::MAX), 9).await.unwrap();
            assert_eq!(due.len(), 1, "round {round}");
            acknowledged = kept;
        });
    }
    assert!(dir.path().join(JOURNAL_FILE).exists() && dir.path().join(LOCK_FILE).exists());
}

/// Kills a writer as soon as it says that it has come to `until`; gives the last number that it said.
fn commit_and_kill(dir: &Path, until: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("the test binary has a path"))
        .args(["--exact", "journal::writer_to_be_killed", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let mut said = 0;
    let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
    let mut killed = false;
    for line in lines.map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("acknowledged ") {
            said = number.parse().expect("a number follows");
        }
        if said >= until && !killed {
            child.kill().expect("it can be killed");
            killed = true;
        }
    }
    child.wait().expect("it can be waited for");
    assert!(said >= until, "the writer ended by itself after {said}");
    said
}
