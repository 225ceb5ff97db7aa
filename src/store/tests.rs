//! The journal against everything that may happen to a file.

mod outbox;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::domain::id::{RevisionId, SignalName, WorkloadId};
use crate::domain::incident::alert::Alert;
use crate::domain::incident::record::{Cause, Closing, Event, Record};
use crate::domain::incident::report::ReceiptState::{Delivered, GivenUp, Waiting};
use crate::domain::incident::state::WorkloadState;
use crate::domain::policy::{Mode, Strategy};
use crate::domain::units::Finite;
use crate::engine::ports::{Notice, Settled};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1000)
}

fn released(workload: &str, sequence: u64) -> Record {
    Record {
        workload: WorkloadId::new(workload),
        sequence,
        incident: None,
        at: at(sequence.cast_signed()),
        event: Event::ReleaseObserved {
            revision: RevisionId::new(format!("v{sequence}")),
            image: None,
            previous: None,
            by_rollback: false,
            older_faults: Vec::new(),
            instances: [].into(),
        },
    }
}

fn suspected(workload: &str, sequence: u64, incident: &str) -> Record {
    Record {
        incident: Some(IncidentId::new(incident)),
        event: Event::Suspected {
            cause: Cause::Blind { reason: "no target answers".to_owned() },
            from: None,
            goal: None,
            onset: at(sequence.cast_signed()),
            mode: Mode::Enforce,
            strategy: Strategy::Direct,
        },
        ..released(workload, sequence)
    }
}

fn closed(workload: &str, sequence: u64, incident: &str) -> Record {
    Record {
        incident: Some(IncidentId::new(incident)),
        event: Event::Closed { how: Closing::Subsided },
        ..released(workload, sequence)
    }
}

fn alert(incident: &str, sequence: u64) -> Alert {
    let json = serde_json::json!({
        "schema": "rollbackd/alert/v1", "id": format!("{incident}_{sequence}"), "sequence": sequence,
        "incident": incident, "workload": "api", "phase": "detected", "severity": "critical", "mode": "enforce",
        "trigger": {"name": "error rate"}, "from": null, "to": null, "strategy": "direct", "reason": "r",
        "times": {}, "next": {"action": "decide", "deadline": null}, "stop": {"command": "x"}, "summary": "s"
    });
    serde_json::from_value(json).unwrap()
}

fn records(records: Vec<Record>) -> Batch {
    Batch { records, notices: Vec::new() }
}

fn with_notice(record: Record, alert: Alert, receivers: &[&str]) -> Batch {
    let receivers = receivers.iter().map(ReceiverName::new).collect();
    Batch { records: vec![record], notices: vec![Notice { alert, receivers }] }
}

async fn all_records(reader: &Reader, workload: &str) -> Vec<Record> {
    reader.records(&WorkloadId::new(workload), usize::MAX).await.unwrap()
}

async fn due_ids(store: &Store, receiver: &str, now: Timestamp) -> Vec<String> {
    let due = store.due(&ReceiverName::new(receiver), now, 10).await.unwrap();
    due.into_iter().map(|delivery| delivery.id).collect()
}

async fn settle(store: &Store, id: &str, receiver: &str, outcome: Settled) {
    let receiver = ReceiverName::new(receiver);
    let settlement = Settlement { id: id.to_owned(), receiver, at: at(50), attempts: 1, outcome };
    store.settle(vec![settlement]).await.unwrap();
}

fn whole_error(error: StoreError) -> String {
    JournalError::from(error).0
}

#[tokio::test]
async fn what_is_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("deep/state");
    let batch = vec![released("api", 1), suspected("api", 2, "api-1"), released("web", 1)];
    let store = Store::open(&state_dir).unwrap();
    store.commit(records(batch.clone())).await.unwrap();
    drop(store);
    let store = Store::open(&state_dir).unwrap();
    assert_eq!(all_records(store.reader(), "api").await, batch[..2]);
    assert_eq!(store.reader().incident_records(&IncidentId::new("api-1")).await.unwrap(), batch[1..2]);
    assert_eq!(store.reader().workloads().await.unwrap(), [WorkloadId::new("api"), WorkloadId::new("web")]);
    assert_eq!(store.reader().records(&WorkloadId::new("api"), 1).await.unwrap(), batch[1..2]);
    let folded = store.reader().fold().await.unwrap();
    let mut expected = WorkloadState::default();
    expected.apply(&batch[0]).unwrap();
    expected.apply(&batch[1]).unwrap();
    assert_eq!(folded[0].1.as_ref().unwrap(), &expected);
}

#[tokio::test]
async fn only_the_owner_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    let store = Store::open(&state_dir).unwrap();
    store.commit(records(vec![released("api", 1)])).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir), 0o700);
    for file in ["journal.db", "journal.db-wal", "journal.db-shm", "lock"] {
        assert_eq!(mode(&state_dir.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_second_daemon_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let refused = Store::open(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "state directory {} is in use by process {}; two daemons must not share one",
        dir.path().display(),
        std::process::id()
    );
    assert_eq!(refused, expected);
    assert!(Store::open_read_only(dir.path()).is_ok());
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_linked_state_directory_works_as_systemd_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("private")).unwrap();
    std::os::unix::fs::symlink("private", dir.path().join("state")).unwrap();
    drop(Store::open(&dir.path().join("state")).unwrap());
    assert!(dir.path().join("private/journal.db").exists());
}

#[tokio::test]
async fn a_record_out_of_order_takes_its_whole_batch_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(records(vec![released("api", 1)])).await.unwrap();
    let before = *store.committed().borrow();
    for (wrong, message) in [
        (1, "record 1 of api was to be written, but 3 is next"),
        (2, "record 2 of api was to be written, but 3 is next"),
        (4, "record 4 of api was to be written, but 3 is next"),
    ] {
        let mut batch = with_notice(released("api", 2), alert("i", 1), &["oncall"]);
        batch.records.push(released("api", wrong));
        let error = store.commit(batch).await.unwrap_err();
        assert!(matches!(&error, NotCommitted::Refused { workload, .. } if workload.as_str() == "api"), "{error:?}");
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(all_records(store.reader(), "api").await.len(), 1);
    assert_eq!(store.reader().outbox().await.unwrap(), OutboxStats::default());
    assert_eq!(*store.committed().borrow(), before);
}

#[tokio::test]
async fn a_message_told_twice_is_refused_with_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(with_notice(released("api", 1), alert("i", 1), &["oncall"])).await.unwrap();
    let error = store.commit(with_notice(released("api", 2), alert("i", 1), &["oncall"])).await.unwrap_err();
    assert!(matches!(&error, NotCommitted::Refused { workload, .. } if workload.as_str() == "api"), "{error:?}");
    assert_eq!(all_records(store.reader(), "api").await.len(), 1);
}

#[tokio::test]
async fn incidents_are_listed_newest_first_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let batch = vec![
        suspected("api", 1, "api-1"),
        closed("api", 2, "api-1"),
        suspected("web", 1, "web-1"),
        suspected("api", 3, "api-3"),
    ];
    store.commit(records(batch)).await.unwrap();
    let reader = store.reader();
    let listed = reader.incidents(None, 2, None).await.unwrap();
    assert_eq!(listed.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["api-3", "web-1"]);
    let rest = reader.incidents(None, 2, Some(&listed[1].id)).await.unwrap();
    let first = IncidentSummary {
        id: IncidentId::new("api-1"),
        workload: WorkloadId::new("api"),
        first_at: at(1),
        last_at: at(2),
        last_event: "closed".to_owned(),
        open: false,
    };
    assert_eq!(rest, std::slice::from_ref(&first));
    let of_api = reader.incidents(Some(&WorkloadId::new("api")), 9, None).await.unwrap();
    assert_eq!(of_api.iter().map(|i| (i.id.as_str(), i.open)).collect::<Vec<_>>(), [("api-3", true), ("api-1", false)]);
    assert_eq!(reader.incident(&IncidentId::new("api-1")).await.unwrap(), Some(first));
    assert_eq!(reader.incident(&IncidentId::new("none")).await.unwrap(), None);
}

#[tokio::test]
async fn readings_are_kept_up_to_their_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let incident = IncidentId::new("i");
    let point = |secs: i64, value: f64| Point {
        signal: SignalName::new("error_rate"),
        at: at(secs),
        value: Finite::new(value).unwrap(),
    };
    assert_eq!(store.save_points(&incident, vec![point(2, 0.5), point(1, 0.25)]).await.unwrap(), 2);
    assert_eq!(store.reader().points(&incident).await.unwrap(), [point(1, 0.25), point(2, 0.5)]);
    let many = (0..i64::try_from(POINTS_PER_INCIDENT).unwrap()).map(|i| point(10 + i, 1.0)).collect();
    assert_eq!(store.save_points(&incident, many).await.unwrap(), POINTS_PER_INCIDENT - 2);
    assert_eq!(store.save_points(&incident, vec![point(0, 0.0)]).await.unwrap(), 0);
}

#[tokio::test]
async fn pruning_keeps_what_was_learned_and_what_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(with_notice(released("api", 1), alert("old", 1), &["x", "y"])).await.unwrap();
    let rest = vec![suspected("api", 2, "old"), closed("api", 3, "old"), suspected("api", 4, "open")];
    store.commit(records(rest)).await.unwrap();
    store.commit(records(vec![closed("web", 1, "bad")])).await.unwrap();
    let point = Point { signal: SignalName::new("s"), at: at(2), value: Finite::new(1.0).unwrap() };
    store.save_points(&IncidentId::new("old"), vec![point]).await.unwrap();
    settle(&store, "old_1", "x", Settled::Sent).await;
    let before = store.reader().fold().await.unwrap();

    let pruned = store.prune(at(1000)).await.unwrap();
    assert_eq!(pruned, Pruned { records: 3, incidents: 1, messages: 0 });
    let after = store.reader().fold().await.unwrap();
    assert_eq!(after[0].1.as_ref().unwrap(), before[0].1.as_ref().unwrap());
    assert!(matches!(after[1].1, Err(StoreError::Illegal(_))));
    assert_eq!(all_records(store.reader(), "api").await.len(), 1);
    assert_eq!(store.reader().points(&IncidentId::new("old")).await.unwrap(), []);
    // The receiver that is down still gets its message, and the sequence goes on.
    assert_eq!(due_ids(&store, "y", at(1000)).await, ["old_1"]);
    store.commit(records(vec![closed("api", 5, "open")])).await.unwrap();

    settle(&store, "old_1", "y", Settled::Sent).await;
    let pruned = store.prune(at(1000)).await.unwrap();
    assert_eq!(pruned, Pruned { records: 2, incidents: 1, messages: 1 });
    assert_eq!(store.reader().workloads().await.unwrap().len(), 2);
    store.commit(records(vec![released("api", 6)])).await.unwrap();
    assert_eq!(store.reader().fold().await.unwrap()[0].1.as_ref().unwrap().sequence, 6);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(records(vec![released("api", 1)])).await.unwrap();
    let pages = |n: i64| {
        let failed = StoreError::failed("limiting");
        store.writer.call(move |c| c.pragma_update_and_check(None, "max_page_count", n, |_| Ok(())).map_err(failed))
    };
    pages(1).await.unwrap();
    let mut big = released("api", 2);
    big.event = Event::Paused { by: "ops".to_owned(), reason: "x".repeat(100_000) };
    let batch = Batch { notices: with_notice(big.clone(), alert("a", 1), &["x"]).notices, records: vec![big] };
    let error = store.commit(batch.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal could not be written: appending to the journal failed: database or disk is full"
    );
    assert_eq!(all_records(store.reader(), "api").await, [released("api", 1)]);
    assert_eq!(store.reader().outbox().await.unwrap().waiting, 0);
    pages(1_000_000).await.unwrap();
    store.commit(batch).await.unwrap();
    assert_eq!(all_records(store.reader(), "api").await.len(), 2);
    assert_eq!(store.reader().outbox().await.unwrap().waiting, 1);
}

/// What is written to a file that nobody will find is no record; put back, it goes on where it was.
#[tokio::test]
async fn nothing_counts_that_the_next_start_would_not_find() {
    for moved in ["", "journal.db", "journal.db-wal", "lock"] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let store = Store::open(&state).unwrap();
        store.commit(records(vec![released("api", 1)])).await.unwrap();
        let (path, away) = (state.join(moved), dir.path().join("away"));
        fs::rename(&path, &away).unwrap();
        let missing = if moved.is_empty() { state.clone() } else { path.clone() };
        let told = format!(
            "the journal could not be written: {} was moved or removed: what is written now would be lost; stop the \
             daemon, put it back, and start the daemon",
            missing.display()
        );
        assert_eq!(store.probe().await.unwrap_err().to_string(), told);
        assert_eq!(store.commit(records(vec![released("api", 2)])).await.unwrap_err().to_string(), told);
        // Something else in its place is not it.
        match moved {
            "" => fs::create_dir(&path).unwrap(),
            _ => drop(fs::copy(&away, &path).unwrap()),
        }
        assert_eq!(store.commit(records(vec![released("api", 2)])).await.unwrap_err().to_string(), told);
        if moved.is_empty() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
        fs::rename(&away, &path).unwrap();
        store.probe().await.unwrap();
        store.commit(records(vec![released("api", 2)])).await.unwrap();
        drop(store);
        let store = Store::open(&state).unwrap();
        assert_eq!(all_records(store.reader(), "api").await, [released("api", 1), released("api", 2)], "{moved}");
    }
}

/// A disk that hangs holds up the thread that writes, and not the end of the process.
#[tokio::test]
async fn what_does_not_end_is_left_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (end, hanging) = std::sync::mpsc::channel::<()>();
    let writer = Arc::clone(&store.writer);
    let hung = writer.call(move |_| {
        // Until the other end is gone.
        let _ = hanging.recv();
        Ok(())
    });
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), hung).await.is_err());
    drop(writer);
    let (ended, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(store);
        ended.send(()).unwrap();
    });
    waiting.recv_timeout(std::time::Duration::from_secs(5)).unwrap();
    drop(end);
}

#[tokio::test]
async fn a_torn_log_opens_at_the_last_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(records(vec![released("api", 1)])).await.unwrap();
    store.commit(records(vec![released("api", 2)])).await.unwrap();
    // A copy while the log is live is what a power cut leaves.
    let crashed = tempfile::tempdir().unwrap();
    for file in ["journal.db", "journal.db-wal"] {
        fs::copy(dir.path().join(file), crashed.path().join(file)).unwrap();
    }
    let log = crashed.path().join("journal.db-wal");
    let length = fs::metadata(&log).unwrap().len();
    OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 100).unwrap();
    let store = Store::open(crashed.path()).unwrap();
    assert_eq!(all_records(store.reader(), "api").await, [released("api", 1)]);
    store.commit(records(vec![released("api", 2)])).await.unwrap();
}

/// A closed journal of many records, all of it in the main file.
async fn closed_journal(dir: &Path) -> std::path::PathBuf {
    let store = Store::open(dir).unwrap();
    for chunk in (1..=400).collect::<Vec<u64>>().chunks(100) {
        store.commit(records(chunk.iter().map(|n| released("api", *n)).collect())).await.unwrap();
    }
    drop(store);
    dir.join(JOURNAL_FILE)
}

#[tokio::test]
async fn a_damaged_page_is_refused_with_advice_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = closed_journal(dir.path()).await;
    let length = fs::metadata(&file).unwrap().len();
    let handle = OpenOptions::new().write(true).open(&file).unwrap();
    for page in 2..length / 4096 {
        handle.write_all_at(&[0xff; 64], page * 4096).unwrap();
    }
    let damaged = fs::read(&file).unwrap();
    let error = whole_error(Store::open(dir.path()).unwrap_err());
    assert!(error.starts_with(&format!("{} is damaged: ", file.display())), "{error}");
    assert!(error.contains("nothing was changed. Restore a backup"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), damaged);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(JOURNAL_FILE);
    fs::write(&file, "x".repeat(9000)).unwrap();
    let error = whole_error(Store::open(dir.path()).unwrap_err());
    assert!(error.starts_with(&format!("{} is damaged: it is not an SQLite database", file.display())), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "x".repeat(9000));
}

#[tokio::test]
async fn a_flipped_bit_in_an_entry_costs_its_workload_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(records(vec![released("api", 1), released("web", 1)])).await.unwrap();
    store.commit(with_notice(released("web", 2), alert("a", 1), &["x"])).await.unwrap();
    drop(store);
    let file = Connection::open(dir.path().join(JOURNAL_FILE)).unwrap();
    let flipped = file.execute("UPDATE records SET body = replace(body, 'v1', 'w1') WHERE workload = 'api'", []);
    assert_eq!(flipped.unwrap(), 1);
    file.execute("UPDATE messages SET body = replace(body, 'critical', 'alert')", []).unwrap();
    file.close().unwrap();

    let store = Store::open(dir.path()).unwrap();
    let folded = store.reader().fold().await.unwrap();
    let error = folded[0].1.as_ref().unwrap_err().to_string();
    assert_eq!(error, "record 1 of api is damaged: its digest does not fit");
    assert_eq!(folded[1].1.as_ref().unwrap().sequence, 2);
    let due = store.due(&ReceiverName::new("x"), at(9), 9).await.unwrap();
    assert_eq!(due[0].alert, Err("message a_1 is damaged: its digest does not fit".to_owned()));
}

#[tokio::test]
async fn a_read_that_fails_is_no_damage_of_a_workload() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(records(vec![released("api", 1), released("web", 1)])).await.unwrap();
    let fold_over = async |view: &'static str| {
        let over = move |connection: &mut Connection| {
            connection.execute_batch(view).map_err(StoreError::failed("hiding a table"))?;
            fold::all(connection)
        };
        store.reader().call(over).await
    };
    // Of one workload no record can be had; then one is not what was written.
    let fails = "CREATE TEMP VIEW records AS
                 SELECT workload, sequence, iif(workload = 'web', json('{'), body) AS body, digest FROM main.records";
    let error = whole_error(fold_over(fails).await.unwrap_err());
    assert_eq!(error, "reading the journal failed: malformed JSON");
    let is_null = "DROP VIEW temp.records; CREATE TEMP VIEW records AS
                   SELECT workload, sequence, iif(workload = 'web', NULL, body) AS body, digest FROM main.records";
    let folded = fold_over(is_null).await.unwrap();
    assert!(folded[0].1.is_ok() && folded[1].1.is_err(), "{folded:?}");
}

#[tokio::test]
async fn a_newer_journal_is_left_to_a_newer_version() {
    let dir = tempfile::tempdir().unwrap();
    let file = closed_journal(dir.path()).await;
    let other = Connection::open(&file).unwrap();
    other.pragma_update(None, "user_version", 7).unwrap();
    other.close().unwrap();
    let expected = format!(
        "{} has format 7, this version knows formats up to 4; run the version that wrote it, or newer",
        file.display()
    );
    assert_eq!(Store::open(dir.path()).unwrap_err().to_string(), expected);
    assert_eq!(Store::open_read_only(dir.path()).unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(JOURNAL_FILE);
    let other = Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    other.close().unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert_eq!(error, format!("{} is a database of another program; nothing was changed", file.display()));
}

#[tokio::test]
async fn reading_needs_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open_read_only(dir.path()).unwrap_err().to_string();
    let file = dir.path().join(JOURNAL_FILE);
    assert_eq!(error, format!("{} does not exist; has a daemon run with this state directory?", file.display()));
    closed_journal(dir.path()).await;
    let reader = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(all_records(&reader, "api").await.len(), 400);
}

/// Something that is worth keeping, by its JSON.
fn memory(bad: f64) -> Memory {
    let minute = serde_json::json!(["2027-01-15T08:00:00Z", bad, 600.0, []]);
    let signal = serde_json::json!({ "signal": "error_rate", "series": ["a", "b"], "releases": [["v1", [minute]]] });
    serde_json::from_value(serde_json::json!({ "signals": [signal], "events": [] })).unwrap()
}

#[tokio::test]
async fn what_was_seen_lately_is_there_after_a_restart_and_only_the_newest_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (api, web) = (WorkloadId::new("api"), WorkloadId::new("web"));
    let store = Store::open(dir.path()).unwrap();
    store.save_memory(&api, memory(1.0), at(1)).await.unwrap();
    store.save_memory(&web, memory(3.0), at(5)).await.unwrap();
    store.save_memory(&api, memory(2.0), at(9)).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let kept = async |workload: &WorkloadId| store.reader().memory(workload).await.unwrap();
    assert_eq!(kept(&api).await, Some(memory(2.0)));
    assert_eq!(kept(&web).await, Some(memory(3.0)));
    assert_eq!(kept(&WorkloadId::new("db")).await, None);
    store.prune(at(7)).await.unwrap();
    assert_eq!(kept(&web).await, None, "what nobody wrote for so long goes");
    assert_eq!(kept(&api).await, Some(memory(2.0)));
    drop(store);
    let file = Connection::open(dir.path().join(JOURNAL_FILE)).unwrap();
    file.execute("UPDATE memories SET body = replace(body, '600.0', '900.0')", []).unwrap();
    file.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = store.reader().memory(&api).await.unwrap_err().to_string();
    assert_eq!(error, "memory of api is damaged: its digest does not fit");
}

#[tokio::test]
async fn a_journal_that_was_emptied_is_noticed_and_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.probe().await.unwrap();
    let log = std::fs::read(dir.path().join("journal.db-wal")).unwrap();
    std::fs::File::create(dir.path().join("journal.db")).unwrap();
    let error = store.probe().await.unwrap_err().to_string();
    assert!(error.contains("journal.db is empty, though it held records"), "{error}");
    drop(store);
    std::fs::File::create(dir.path().join("journal.db")).unwrap();
    std::fs::write(dir.path().join("journal.db-wal"), if log.is_empty() { b"log".to_vec() } else { log }).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Emptied { .. })));
}
