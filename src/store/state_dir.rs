//! The state directory, and the lock that keeps a second daemon out of it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::error::StoreError;

/// The journal's file in the state directory.
pub const JOURNAL_FILE: &str = "journal.db";

/// The lock's file in the state directory; it holds the holder's process id.
pub const LOCK_FILE: &str = "lock";

/// How often, and how long apart, a lock is tried that another process holds: a second in all.
const CLAIM_TRIES: usize = 50;
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

/// A state directory that is ours for as long as this value lives. The lock goes with the process, however that ends.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory where it is missing (for the owner only) and locks it.
    pub(super) fn claim(path: &Path) -> Result<Self, StoreError> {
        let failed = |doing| move |source| StoreError::StateDir { path: path.to_owned(), doing, source };
        create(path).map_err(failed("creating it"))?;
        // SQLite refuses links in a path where the last component must be none; systemd's StateDirectory= is one.
        let path_itself = path.canonicalize().map_err(failed("resolving it"))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path_itself.join(LOCK_FILE))
            .map_err(failed("opening its lock"))?;
        match lock_patiently(&lock) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::InUse { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(errno) => return Err(failed("locking it")(errno.into())),
        }
        note_holder(&mut lock).map_err(failed("writing its lock"))?;
        Ok(Self { path: path_itself, _lock: lock })
    }

    /// The journal's file, made (for the owner only) where it is missing.
    pub(super) fn journal(&self) -> Result<PathBuf, StoreError> {
        let file = self.path.join(JOURNAL_FILE);
        let failed = |doing| move |source| StoreError::StateDir { path: self.path.clone(), doing, source };
        // SQLite would make it readable for all; its -wal and -shm take over what this file has.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
            Ok(new) => new.sync_all().and_then(|()| sync(&self.path)).map_err(failed("keeping the new journal"))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let log = fs::metadata(self.path.join(log_file())).map_or(0, |log| log.len());
                let journal = fs::metadata(&file).map_err(failed("looking at the journal"))?;
                if journal.len() == 0 && log > 0 {
                    return Err(StoreError::Emptied { path: file });
                }
            }
            Err(e) => return Err(failed("creating the journal")(e)),
        }
        Ok(file)
    }
}

/// The journal's write-ahead log, as SQLite names it.
pub(super) fn log_file() -> OsString {
    let mut log = OsString::from(JOURNAL_FILE);
    log.push("-wal");
    log
}

/// Where a daemon is killed while it starts a program, that one holds the lock as well until it runs: a moment.
fn lock_patiently(lock: &File) -> Result<(), Errno> {
    for _ in 0..CLAIM_TRIES {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => sleep(CLAIM_PAUSE),
            locked => return locked,
        }
    }
    flock(lock, FlockOperation::NonBlockingLockExclusive)
}

fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        Some(_) | None => Ok(()),
    }
}

/// Makes a directory's entries survive a power cut.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() && text.trim().bytes().all(|b| b.is_ascii_digit()) => {
            format!("process {}", text.trim())
        }
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}

fn note_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// The journal's file, for those who only read.
pub(super) fn existing_journal(path: &Path) -> Result<PathBuf, StoreError> {
    let file = path.join(JOURNAL_FILE);
    match fs::canonicalize(&file) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { path: file }),
        Err(source) => Err(StoreError::StateDir { path: path.to_owned(), doing: "opening the journal", source }),
    }
}
