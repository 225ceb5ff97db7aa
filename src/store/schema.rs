//! The journal's tables, how they came to be, and whether a file may be trusted.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::error::StoreError;

/// Marks the file as a rollbackd journal: `rbkd`.
const APPLICATION_ID: i64 = 0x7262_6b64;

/// How long a statement waits for another connection of ours; checkpoints are the only thing to wait for.
const BUSY: Duration = Duration::from_secs(5);

/// Page cache of one connection, in KiB. The journal is read rarely and written in small pieces.
const CACHE_KIB: i64 = 512;

/// The write-ahead log is cut back to this after a checkpoint, in bytes.
const WAL_LIMIT: i64 = 4 * 1024 * 1024;

/// Findings of the integrity check that an error quotes.
const FINDINGS: usize = 3;

/// What leads from each format to the next. Only ever appended to.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE records (
        workload TEXT    NOT NULL,
        sequence INTEGER NOT NULL,
        incident TEXT,
        at       INTEGER NOT NULL,
        body     TEXT    NOT NULL,
        digest   BLOB    NOT NULL,
        PRIMARY KEY (workload, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX records_of_incident ON records (incident, sequence) WHERE incident IS NOT NULL;

    -- The state that the records up to a sequence fold into, once they are pruned.
    CREATE TABLE snapshots (
        workload TEXT    NOT NULL PRIMARY KEY,
        sequence INTEGER NOT NULL,
        body     TEXT    NOT NULL,
        digest   BLOB    NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- One line an incident, kept with its records, so that a list need not read them.
    CREATE TABLE incidents (
        id         TEXT    NOT NULL PRIMARY KEY,
        workload   TEXT    NOT NULL,
        first_at   INTEGER NOT NULL,
        last_at    INTEGER NOT NULL,
        last_event TEXT    NOT NULL,
        open       INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX incidents_by_time ON incidents (first_at, id);
    CREATE INDEX incidents_of_workload ON incidents (workload, first_at, id);

    CREATE TABLE points (
        incident TEXT    NOT NULL,
        signal   TEXT    NOT NULL,
        at       INTEGER NOT NULL,
        value    REAL    NOT NULL,
        PRIMARY KEY (incident, signal, at)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE messages (
        id         TEXT    NOT NULL PRIMARY KEY,
        incident   TEXT    NOT NULL,
        sequence   INTEGER NOT NULL,
        created_at INTEGER,
        body       TEXT    NOT NULL,
        digest     BLOB    NOT NULL,
        UNIQUE (incident, sequence)
    ) STRICT;
    -- state: 0 waiting, 1 sent, 2 parked.
    CREATE TABLE deliveries (
        message         TEXT    NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        receiver        TEXT    NOT NULL,
        incident        TEXT    NOT NULL,
        sequence        INTEGER NOT NULL,
        state           INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
        attempts        INTEGER NOT NULL DEFAULT 0,
        next_attempt_at INTEGER NOT NULL,
        settled_at      INTEGER,
        error           TEXT,
        PRIMARY KEY (message, receiver)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX deliveries_waiting ON deliveries (receiver, incident, sequence) WHERE state = 0;
    CREATE INDEX deliveries_settled ON deliveries (settled_at) WHERE state <> 0;
",
    "
    -- What was seen of each workload lately, for the next start. One line a workload, written over and over.
    CREATE TABLE memories (
        workload TEXT    NOT NULL PRIMARY KEY,
        at       INTEGER NOT NULL,
        body     TEXT    NOT NULL,
        digest   BLOB    NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- What ConfigMaps said that releases name, by what stands for it.
    CREATE TABLE shelf (
        workload TEXT NOT NULL,
        content  TEXT NOT NULL,
        body     BLOB NOT NULL,
        PRIMARY KEY (workload, content)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Until when a receiver asked to be left alone.
    ALTER TABLE deliveries ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
",
];

/// The newest format known here.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens a journal for reading and writing: checked whole before the first byte is changed, then brought up to date.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = connect(path, flags)?;
    let prepared = prepare(&mut connection, path);
    match prepared {
        Ok(()) => Ok(connection),
        Err(error) => Err(as_corrupt(path, error)),
    }
}

/// Opens a journal for reading only, beside a daemon that writes it or without one.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = connect(path, flags)?;
    match refuse_other_formats(&connection, path) {
        Ok(0) => Err(StoreError::Missing { path: path.to_owned() }),
        Ok(_) => Ok(connection),
        Err(error) => Err(as_corrupt(path, error)),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    open_and_limit(path, flags).map_err(|error| as_corrupt(path, error))
}

fn open_and_limit(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let opening = |source| StoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, flags).map_err(opening)?;
    connection.busy_timeout(BUSY).map_err(opening)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(opening)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(opening)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let setting_up = StoreError::failed("setting up the journal");
    // Until the file is known to be sound, nothing of its log is moved into it, not even on close.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&setting_up)?;
    let version = refuse_other_formats(connection, path)?;
    check_integrity(connection, path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(&setting_up)?;
    if version == 0 {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(&setting_up)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&setting_up)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&setting_up)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&setting_up)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(&setting_up)?;
    migrate(connection, version)
}

/// The file's format; 0 for one that is empty.
fn refuse_other_formats(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let pragma = |name: &str| -> Result<i64, StoreError> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(StoreError::failed("reading the format"))
    };
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(StoreError::failed("reading the tables"))?;
    let ours = application == APPLICATION_ID || (application == 0 && version == 0 && tables == 0);
    if !ours {
        Err(StoreError::Foreign { path: path.to_owned() })
    } else if version > newest() {
        Err(StoreError::Newer { path: path.to_owned(), found: version, known: newest() })
    } else {
        Ok(version)
    }
}

fn check_integrity(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let checking = StoreError::failed("checking the journal");
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS})")).map_err(&checking)?;
    let findings: Result<Vec<String>, _> = statement.query_map([], |row| row.get(0)).map_err(&checking)?.collect();
    let findings = findings.map_err(&checking)?;
    if findings == ["ok"] {
        return Ok(());
    }
    Err(StoreError::Corrupt { path: path.to_owned(), findings: findings.join("; ").replace('\n', " ") })
}

fn migrate(connection: &mut Connection, from: i64) -> Result<(), StoreError> {
    let migrating = StoreError::failed("bringing the journal up to date");
    for (step, target) in MIGRATIONS.iter().zip(1..).skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        let transaction = connection.transaction().map_err(&migrating)?;
        transaction.execute_batch(step).map_err(&migrating)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(&migrating)?;
        transaction.pragma_update(None, "user_version", target).map_err(&migrating)?;
        transaction.commit().map_err(&migrating)?;
        tracing::info!(format = target, "journal brought up to date");
    }
    Ok(())
}

/// What SQLite calls corrupt is told with what to do about it.
fn as_corrupt(path: &Path, error: StoreError) -> StoreError {
    let (StoreError::Failed { source, .. } | StoreError::Open { source, .. }) = &error else { return error };
    let findings = match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => "its pages contradict one another",
        Some(ErrorCode::NotADatabase) => "it is not an SQLite database",
        Some(_) | None => return error,
    };
    StoreError::Corrupt { path: path.to_owned(), findings: findings.to_owned() }
}

/// A single value that may be missing.
pub(super) fn optional<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Option<T>> {
    connection.query_row(sql, parameters, |row| row.get(0)).optional()
}
