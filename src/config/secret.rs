//! Whether a file can hold a secret, without reading more of it than its size.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A secret is a line or a key; more is a mistaken path.
const LARGEST: u64 = 64 * 1024;

/// Anyone on the machine may write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// What is wrong with a secret's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFault {
    /// Continues a sentence that begins with the path.
    pub message: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// Looks at a file that should hold a secret.
pub type SecretProbe<'a> = dyn Fn(&Path) -> Result<(), SecretFault> + 'a;

/// Looks at the real file: there, regular, readable, not empty, of a secret's size, and not writable by everyone.
///
/// # Errors
///
/// Whatever of that is not so.
pub fn look(path: &Path) -> Result<(), SecretFault> {
    let fault = |message: &str, hint| Err(SecretFault { message: message.to_owned(), hint });
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return fault(
                "does not exist",
                Some("write the secret there, or hand it over with systemd's LoadCredential="),
            );
        }
        Err(why) => return fault(&format!("can't be looked at: {why}"), None),
    };
    if !metadata.is_file() {
        return fault("is not a regular file", None);
    }
    if metadata.permissions().mode() & WRITABLE_BY_ALL != 0 {
        return fault("may be written by anyone", Some("chmod 0600 it"));
    }
    match metadata.len() {
        0 => fault("is empty", None),
        1..=LARGEST => match File::open(path) {
            Ok(_) => Ok(()),
            Err(why) => fault(&format!("can't be read: {why}"), None),
        },
        _ => fault("is larger than 64 KiB", Some("a secret is a line or a key; is this the right file?")),
    }
}

/// Takes every file as given: for policies whose secrets are on another machine.
///
/// # Errors
///
/// None.
pub const fn trust(_: &Path) -> Result<(), SecretFault> {
    Ok(())
}
