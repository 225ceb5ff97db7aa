//! Whether a file that a policy refers to can be what it should be, without reading any of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A secret is a line or a key; more is a mistaken path.
const LARGEST_SECRET: u64 = 64 * 1024;

/// Several times what all public roots of trust need.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;

/// Anyone on the machine may write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// What a file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A password, a token, a key, or a URL that is a secret.
    Secret,
    /// PEM certificates, which everyone may know.
    Certificates,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Continues a sentence that begins with the path.
    pub message: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// Looks at a file that a policy refers to.
pub type FileProbe<'a> = dyn Fn(&Path, Content) -> Result<(), FileFault> + 'a;

/// Looks at the real file: there, regular, readable, not empty, not too large, and not writable by everyone.
///
/// # Errors
///
/// The first of that which is not so.
pub fn look(path: &Path, content: Content) -> Result<(), FileFault> {
    let fault = |message: &str, hint| Err(FileFault { message: message.to_owned(), hint });
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return fault("does not exist", hint_for_missing(content)),
        Err(why) => return fault(&format!("can't be looked at: {why}"), None),
    };
    let largest = match content {
        Content::Secret => LARGEST_SECRET,
        Content::Certificates => LARGEST_BUNDLE,
    };
    if !metadata.is_file() {
        fault("is not a regular file", None)
    } else if metadata.permissions().mode() & WRITABLE_BY_ALL != 0 {
        fault("may be written by anyone", Some("chmod o-w it"))
    } else if metadata.len() == 0 {
        fault("is empty", None)
    } else if metadata.len() > largest {
        fault(&format!("is larger than {} KiB", largest / 1024), Some("is this the right file?"))
    } else {
        match File::open(path) {
            Ok(_) => Ok(()),
            Err(why) => fault(&format!("can't be read: {why}"), None),
        }
    }
}

const fn hint_for_missing(content: Content) -> Option<&'static str> {
    match content {
        Content::Secret => Some("write the secret there, or hand it over with systemd's LoadCredential="),
        Content::Certificates => Some("write the PEM certificates there"),
    }
}

/// Takes every file as given: for policies whose secrets are on another machine.
///
/// # Errors
///
/// None.
pub const fn trust(_: &Path, _: Content) -> Result<(), FileFault> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn fault(path: &Path, content: Content) -> String {
        look(path, content).map_or_else(|fault| fault.message, |()| "fine".to_owned())
    }

    #[test]
    fn a_secret_is_a_small_regular_file_of_ones_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert_eq!(fault(&path, Content::Secret), "does not exist");
        assert_eq!(fault(directory.path(), Content::Secret), "is not a regular file");
        fs::write(&path, "").unwrap();
        assert_eq!(fault(&path, Content::Secret), "is empty");
        fs::write(&path, "x".repeat(65 * 1024)).unwrap();
        assert_eq!(fault(&path, Content::Secret), "is larger than 64 KiB");
        assert_eq!(fault(&path, Content::Certificates), "fine");
        fs::write(&path, "hunter2\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(fault(&path, Content::Secret), "may be written by anyone");
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(fault(&path, Content::Secret), "fine");
    }
}
