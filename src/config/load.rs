//! Policy files from disk: one file, or all `*.toml` of a directory, without hidden ones, as a shell would list them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use super::diagnostic::Diagnostics;
use super::model::Config;
use super::{Overrides, read, referenced};

/// All policy files together are no larger than this.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory can't be read, or is too large.
    #[error("can't read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Whether it was listed in a directory: what is gone by then is about to be replaced, or is not what it seemed.
        is_listed: bool,
        /// Why.
        source: io::Error,
    },
    /// The files are read, and something in them is wrong.
    #[error("the configuration has errors\n\n{0}")]
    Invalid(Diagnostics),
}

impl LoadError {
    /// Whether the same policy may load later: its text could not be read, or a file that it refers to is not there yet.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            LoadError::Unreadable { source, is_listed, .. } => *is_listed || source.kind() != io::ErrorKind::NotFound,
            LoadError::Invalid(diagnostics) => diagnostics.may_pass,
        }
    }
}

/// Reads a policy file, or a directory's `*.toml` in the order of their names, and everything that they refer to.
///
/// # Errors
///
/// [`LoadError::Unreadable`] where a text can't be had, [`LoadError::Invalid`] with every error in all of them otherwise.
pub fn load(path: &Path, overrides: Overrides) -> Result<Config, LoadError> {
    read(texts_at(path)?, overrides, &referenced::look).map_err(LoadError::Invalid)
}

fn texts_at(path: &Path) -> Result<Vec<(PathBuf, String)>, LoadError> {
    let mut left = MAX_BYTES;
    let mut texts = Vec::new();
    for file in files_at(path)? {
        let is_listed = file != path;
        let unreadable = |source| LoadError::Unreadable { path: file.clone(), is_listed, source };
        let text = read_text(&file, &mut left).map_err(unreadable)?;
        texts.push((file, text));
    }
    Ok(texts)
}

fn files_at(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), is_listed: false, source };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // An editor's lock, or a copy that is not done yet.
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(unreadable(io::Error::new(io::ErrorKind::NotFound, "there is no *.toml in the directory")));
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path, left: &mut u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    let size = File::open(path)?.take(*left + 1).read_to_end(&mut bytes)?;
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "all policy files together may have 4 MiB");
    *left = left.checked_sub(size).ok_or_else(too_large)?;
    String::from_utf8(bytes).map_err(|error| not_text(&error))
}

fn not_text(error: &FromUtf8Error) -> io::Error {
    let good = error.utf8_error().valid_up_to();
    let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
    let byte = error.as_bytes().get(good).copied().unwrap_or_default();
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8 text: it has the byte 0x{byte:02x}"))
}
