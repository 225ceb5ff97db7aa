//! Secrets in files: read when they are used, read anew when they change, never printed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;

/// Largest secret file, in bytes: a chain of certificates fits many times over.
pub const FILE_LIMIT: u64 = 256 * 1024;

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
pub struct SecretFile {
    path: PathBuf,
    cached: Mutex<Option<(Stamp, SecretString)>>,
}

impl SecretFile {
    /// Nothing is read yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::new(None) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The secret as the file has it now; read only where the file changed since the last call.
    ///
    /// # Errors
    /// [`SecretFileError`] where it can't be read or holds nothing.
    pub fn read(&self) -> Result<SecretString, SecretFileError> {
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

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretFile({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_replaced_file_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let secret = SecretFile::new(path.clone());
        assert_eq!(secret.read().unwrap().expose_secret(), "one");
        fs::write(dir.path().join("next"), "two\n").unwrap();
        fs::rename(dir.path().join("next"), &path).unwrap();
        assert_eq!(secret.read().unwrap().expose_secret(), "two");
    }

    #[test]
    fn what_is_no_secret_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let said = |path: &Path| SecretFile::new(path.to_owned()).read().unwrap_err().to_string();
        assert_eq!(said(&path), format!("{} can't be read (No such file or directory (os error 2))", path.display()));
        fs::write(&path, " \n").unwrap();
        assert_eq!(said(&path), format!("{} is empty or not UTF-8 text", path.display()));
        fs::write(&path, vec![b'x'; usize::try_from(FILE_LIMIT).unwrap() + 1]).unwrap();
        assert_eq!(said(&path), format!("{} is larger than 262144 bytes", path.display()));
        assert_eq!(said(dir.path()), format!("{} is not a regular file", dir.path().display()));
    }
}
