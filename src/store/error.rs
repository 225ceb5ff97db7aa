//! What can go wrong with the journal, and what the one who reads it should do.

use std::error::Error;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::domain::id::WorkloadId;
use crate::domain::incident::state::Illegal;
use crate::engine::ports::{JournalError, NotCommitted};

/// Why the journal could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory can't be made or locked.
    #[error("state directory {}: {doing} failed", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Another daemon has the state directory.
    #[error("state directory {} is in use by {holder}; two daemons must not share one", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// `process <pid>`, or that it is not known.
        holder: String,
    },
    /// There is no journal to read.
    #[error("{} does not exist; has a daemon run with this state directory?", path.display())]
    Missing {
        /// The journal.
        path: PathBuf,
    },
    /// The journal was written by a newer version.
    #[error(
        "{} has format {found}, this version knows formats up to {known}; run the version that wrote it, or newer",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The file is an SQLite database, but not a journal.
    #[error("{} is a database of another program; nothing was changed", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged: {findings}; nothing was changed. Restore a backup, or move the file and its -wal aside to \
         start without a memory (open incidents and the known-good ledger are lost; `sqlite3 FILE .recover` may save \
         what is left)",
        path.display()
    )]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// What the check found.
        findings: String,
    },
    /// What is open is not what lies at its path any more.
    #[error(
        "{} was moved or removed: what is written now would be lost; stop the daemon, put it back, and start the daemon",
        path.display()
    )]
    Moved {
        /// What is missing there.
        path: PathBuf,
    },
    /// The file is empty, and was not: what is in its log belongs to what was in it.
    #[error("{} is empty, though it held records: restore it from a backup", path.display())]
    Emptied {
        /// The journal.
        path: PathBuf,
    },
    /// The file can't be opened.
    #[error("{} can't be opened", path.display())]
    Open {
        /// The journal.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A statement failed: disk full, I/O error.
    #[error("{doing} failed")]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// An entry is not what was written: a flipped bit, or a hand at work.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// Which entry.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An entry can't be written as JSON.
    #[error("{what} can't be written as JSON")]
    Unwritable {
        /// Which entry.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A record does not follow the last one: another writer was here, or the caller is wrong.
    #[error("record {sequence} of {workload} was to be written, but {expected} is next")]
    OutOfOrder {
        /// Whose.
        workload: String,
        /// The record's position.
        sequence: u64,
        /// The position that is next.
        expected: u64,
    },
    /// What is to be written of one workload can't follow what is there, however often that is tried.
    #[error("{why}")]
    Refused {
        /// Whose.
        workload: WorkloadId,
        /// Why, in one line.
        why: String,
    },
    /// The records contradict one another.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// There is no room for more.
    #[error("{why}")]
    Full {
        /// Of what, and how much there is.
        why: String,
    },
    /// The store's thread has ended.
    #[error("the journal is closed")]
    Closed,
}

impl StoreError {
    /// For `map_err` on SQLite's errors.
    pub(super) fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        move |source| StoreError::Failed { doing, source }
    }

    /// Whether the operating system or SQLite failed, rather than what was read.
    pub(super) const fn is_of_the_read(&self) -> bool {
        matches!(self, Self::Failed { source: rusqlite::Error::SqliteFailure(..), .. })
    }

    /// What came of writing something of a workload: whether that is what it is about, or the journal.
    pub(super) fn of(self, workload: &WorkloadId) -> Self {
        let is_its_own = match &self {
            Self::OutOfOrder { .. } | Self::Unwritable { .. } | Self::Damaged { .. } | Self::Illegal(_) => true,
            Self::Failed { source, .. } => source.sqlite_error_code() == Some(ErrorCode::ConstraintViolation),
            Self::StateDir { .. }
            | Self::InUse { .. }
            | Self::Missing { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::Corrupt { .. }
            | Self::Moved { .. }
            | Self::Emptied { .. }
            | Self::Open { .. }
            | Self::Full { .. }
            | Self::Closed
            | Self::Refused { .. } => false,
        };
        if !is_its_own {
            return self;
        }
        Self::Refused { workload: workload.clone(), why: JournalError::from(self).0 }
    }
}

impl From<StoreError> for NotCommitted {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { workload, why } => Self::Refused { workload, why },
            other => Self::Journal(other.into()),
        }
    }
}

impl From<StoreError> for JournalError {
    /// One line, since the port carries text only. SQLite's errors say all that their own sources say.
    fn from(error: StoreError) -> Self {
        JournalError(match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })
    }
}
