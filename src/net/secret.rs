//! Secrets in files: read when they are used, read anew when they change, never printed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use crate::host::disk::{Disk, Unanswered};

/// Largest secret file, in bytes: a chain of certificates fits many times over.
pub const FILE_LIMIT: u64 = 256 * 1024;

/// How long a file system may take to hand out a file that a request needs.
pub(super) const FILE_PATIENCE: Duration = Duration::from_secs(2);

/// Why a file that this side needs could not be read. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It could not be opened or read.
    #[error("{} can't be read ({why})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        why: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is over [`FILE_LIMIT`].
    #[error("{} is larger than {FILE_LIMIT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Its file system hangs.
    #[error("{} can't be read ({why})", path.display())]
    Unanswered {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        why: Unanswered,
    },
    /// Nothing but white space, or not text.
    #[error("{} is empty or not UTF-8 text", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// What tells one version of a file from the next; a replaced file differs in its inode at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, which must be a regular one (links are followed).
    pub(super) fn of(path: &Path) -> Result<Self, SecretFileError> {
        let meta = fs::metadata(path).map_err(|why| SecretFileError::Unreadable { path: path.to_owned(), why })?;
        if !meta.is_file() {
            return Err(SecretFileError::NotAFile { path: path.to_owned() });
        }
        Ok(Self { modified: (meta.mtime(), meta.mtime_nsec()), inode: meta.ino(), length: meta.len() })
    }
}

/// The whole of a regular file of at most [`FILE_LIMIT`] bytes.
///
/// # Errors
/// [`SecretFileError`] where it is missing, not a regular file or too large.
pub fn read_bounded(path: &Path) -> Result<Vec<u8>, SecretFileError> {
    Stamp::of(path)?;
    let unreadable = |why| SecretFileError::Unreadable { path: path.to_owned(), why };
    let file = File::open(path).map_err(unreadable)?;
    let mut content = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > FILE_LIMIT {
        return Err(SecretFileError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

/// A file that holds a secret. Surrounding white space does not belong to it.
#[derive(Debug)]
pub struct SecretFile {
    kept: Arc<Kept>,
    disk: Disk,
}

struct Kept {
    path: PathBuf,
    cached: Mutex<Option<(Stamp, SecretString)>>,
}

impl SecretFile {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { kept: Arc::new(Kept { path, cached: Mutex::new(None) }), disk: Disk::default() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.kept.path
    }

    /// The secret as the file has it now; read only where the file changed since the last call.
    ///
    /// # Errors
    /// [`SecretFileError`] where it can't be read within 2 s, or holds nothing.
    pub async fn read(&self) -> Result<SecretString, SecretFileError> {
        let kept = Arc::clone(&self.kept);
        let read = self.disk.ask(FILE_PATIENCE, move || kept.read()).await;
        read.unwrap_or_else(|why| Err(SecretFileError::Unanswered { path: self.path().to_owned(), why }))
    }
}

impl Kept {
    fn read(&self) -> Result<SecretString, SecretFileError> {
        let stamp = Stamp::of(&self.path)?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, secret)) = &*cached
            && *known == stamp
        {
            return Ok(secret.clone());
        }
        let unusable = || SecretFileError::Unusable { path: self.path.clone() };
        let text = String::from_utf8(read_bounded(&self.path)?).map_err(|_| unusable())?;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(unusable());
        }
        let secret = SecretString::from(trimmed);
        *cached = Some((stamp, secret.clone()));
        Ok(secret)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use secrecy::ExposeSecret;

    use super::*;

    #[tokio::test]
    async fn a_replaced_file_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let secret = SecretFile::new(path.clone());
        assert_eq!(secret.read().await.unwrap().expose_secret(), "one");
        fs::write(dir.path().join("next"), "two\n").unwrap();
        fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(secret.read().await.unwrap().expose_secret(), "two");
    }

    #[tokio::test]
    async fn a_file_that_does_not_come_holds_nobody_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = SecretFile::new(file.path().to_owned());
        let (kept, turn) = (Arc::clone(&secret.kept), Arc::new(Barrier::new(2)));
        let hangs = std::thread::spawn({
            let turn = Arc::clone(&turn);
            move || {
                let _cached = kept.cached.lock().unwrap();
                turn.wait();
                turn.wait();
            }
        });
        turn.wait();
        let why = secret.read().await.unwrap_err().to_string();
        turn.wait();
        hangs.join().unwrap();
        let path = file.path().display();
        assert_eq!(why, format!("{path} can't be read (the file system did not answer within 2 s)"));
    }

    #[tokio::test]
    async fn what_is_no_secret_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let said = async |path: &Path| SecretFile::new(path.to_owned()).read().await.unwrap_err().to_string();
        assert_eq!(
            said(&path).await,
            format!("{} can't be read (No such file or directory (os error 2))", path.display())
        );
        fs::write(&path, " \n").unwrap();
        assert_eq!(said(&path).await, format!("{} is empty or not UTF-8 text", path.display()));
        fs::write(&path, vec![b'x'; usize::try_from(FILE_LIMIT).unwrap() + 1]).unwrap();
        assert_eq!(said(&path).await, format!("{} is larger than 262144 bytes", path.display()));
        assert_eq!(said(dir.path()).await, format!("{} is not a regular file", dir.path().display()));
    }
}
