//! Whether the files that are open are still those that the next start would open. What is written to a file that was moved
//! or removed is found by nobody: it is no record.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::state_dir::{JOURNAL_FILE, LOCK_FILE, log_file};

/// The directory and the files that a journal consists of, each by its path with the device and the inode that are open.
#[derive(Debug)]
pub(super) struct Anchor(Vec<(PathBuf, (u64, u64))>);

impl Anchor {
    /// Notes what lies at the paths now: the directory, the lock, the journal, and the journal's log. To be called once they are
    /// open, with the directory as it was named: where that is a link, it may come to lead elsewhere.
    pub(super) fn drop_at(state_dir: &Path) -> Result<Self, StoreError> {
        let files = [LOCK_FILE.into(), JOURNAL_FILE.into(), log_file()].map(|name: OsString| state_dir.join(name));
        let all = std::iter::once(state_dir.to_owned()).chain(files).map(|path| match identity(&path) {
            Ok(Some(identity)) => Ok((path, identity)),
            Ok(None) => Err(StoreError::Moved { path }),
            Err(source) => Err(unknown(&path, source)),
        });
        all.collect::<Result<_, _>>().map(Self)
    }

    /// Whether each is where it was, and the journal was not emptied.
    pub(super) fn holds(&self) -> Result<(), StoreError> {
        for (path, opened) in &self.0 {
            match identity(path) {
                Ok(Some(found)) if found == *opened => {}
                Ok(_) => return Err(StoreError::Moved { path: path.clone() }),
                Err(source) => return Err(unknown(path, source)),
            }
            if path.ends_with(JOURNAL_FILE) && fs::metadata(path).is_ok_and(|journal| journal.len() == 0) {
                return Err(StoreError::Emptied { path: path.clone() });
            }
        }
        Ok(())
    }
}

/// None where nothing is there.
fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unknown(path: &Path, source: io::Error) -> StoreError {
    StoreError::StateDir { path: path.to_owned(), doing: "looking whether it is still there", source }
}
