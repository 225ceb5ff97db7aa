//! Whether a file that a policy refers to can be what it should be. No part of it is ever repeated.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::form::{self, Malformed};

/// A secret is a line or a key; more is a mistaken path.
const LARGEST_SECRET: u64 = 64 * 1024;

/// Several times what all public roots of trust need.
const LARGEST_BUNDLE: u64 = 4 * 1024 * 1024;

/// Anyone on the machine may write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// What a file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A password, a token, or a private key.
    Secret,
    /// What signs a webhook.
    SigningSecret,
    /// A routing key for what speaks PagerDuty's events interface.
    RoutingKey,
    /// An integration key of PagerDuty itself.
    PagerDutysKey,
    /// A URL that is a secret.
    Address,
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

/// Looks at the real file: there, regular, readable, not empty, not too large, not writable by everyone, and of the form
/// that such a secret has.
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
        Content::Certificates => LARGEST_BUNDLE,
        Content::Secret | Content::SigningSecret | Content::RoutingKey | Content::PagerDutysKey | Content::Address => {
            LARGEST_SECRET
        }
    };
    if !metadata.is_file() {
        fault("is not a regular file", Some("write the path of the file itself"))
    } else if metadata.permissions().mode() & WRITABLE_BY_ALL != 0 {
        fault("may be written by anyone", Some("chmod o-w it"))
    } else if metadata.len() == 0 {
        fault("is empty", Some(EMPTY))
    } else if metadata.len() > largest {
        fault(&format!("is larger than {} KiB", largest / 1024), Some("is this the right file?"))
    } else {
        match File::open(path) {
            Ok(file) => examine(file, content),
            Err(why) => fault(&format!("can't be read: {why}"), None),
        }
    }
}

/// What to do about a file without a content.
const EMPTY: &str = "write the secret there, and nothing else";

fn examine(file: File, content: Content) -> Result<(), FileFault> {
    let form: fn(&str) -> Result<(), Malformed> = match content {
        Content::Certificates => return Ok(()),
        Content::Secret => |_| Ok(()),
        Content::SigningSecret => |text| form::signing_keys(text).map(|_| ()),
        Content::RoutingKey => |text| form::routing_key(text).map(|_| ()),
        Content::PagerDutysKey => |text| form::pagerdutys_key(text).map(|_| ()),
        Content::Address => |text| form::address(text).map(|_| ()),
    };
    let mut text = String::new();
    let read = file.take(LARGEST_SECRET).read_to_string(&mut text);
    let text = SecretString::from(text);
    match read {
        Ok(_) if text.expose_secret().trim().is_empty() => {
            Err(FileFault { message: "holds nothing but white space".to_owned(), hint: Some(EMPTY) })
        }
        Ok(_) => form(text.expose_secret())
            .map_err(|Malformed { what, hint }| FileFault { message: what.to_owned(), hint: Some(hint) }),
        Err(why) if why.kind() == io::ErrorKind::InvalidData => {
            Err(FileFault { message: "is not UTF-8 text".to_owned(), hint: Some("is it the right file?") })
        }
        Err(why) => Err(FileFault { message: format!("can't be read: {why}"), hint: None }),
    }
}

/// What of a signing secret's file is allowed, and most likely not meant; nothing of one that can't be read.
#[must_use]
pub fn signing_doubts(path: &Path) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_SECRET).read_to_string(&mut text));
    let text = SecretString::from(text);
    read.map(|_| form::signing_doubts(text.expose_secret())).unwrap_or_default()
}

const fn hint_for_missing(content: Content) -> Option<&'static str> {
    match content {
        Content::Certificates => Some("write the PEM certificates there"),
        Content::Secret | Content::SigningSecret | Content::RoutingKey | Content::PagerDutysKey | Content::Address => {
            Some("write the secret there, or hand it over with systemd's LoadCredential=")
        }
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

    #[test]
    fn a_secret_has_the_form_of_its_kind_and_is_never_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let malformed = [
            (Content::Secret, &b" \n"[..], "holds nothing but white space"),
            (Content::Secret, b"hunter2\xff", "is not UTF-8 text"),
            (Content::SigningSecret, b"whsec_hunter2", "has a whsec_ secret that is not base64"),
            (Content::RoutingKey, b"hunter2 hunter2", "holds more than a routing key"),
            (Content::PagerDutysKey, b"hunter2", "does not hold an integration key of PagerDuty's"),
            (Content::Address, b"hunter2", "does not hold an http or https URL"),
        ];
        for (content, text, expected) in malformed {
            fs::write(&path, text).unwrap();
            let FileFault { message, hint } = look(&path, content).unwrap_err();
            assert_eq!(message, expected, "{content:?}");
            assert!(!hint.unwrap_or_default().contains("hunter2"), "{content:?}");
        }
        let sound = [
            (Content::SigningSecret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nthe old one\n"),
            (Content::RoutingKey, "hunter2\n"),
            (Content::PagerDutysKey, "0123456789abcdef0123456789abcdef\n"),
            (Content::Address, "https://hooks.slack.com/services/T0/B0/x\n"),
        ];
        for (content, text) in sound {
            fs::write(&path, text).unwrap();
            assert_eq!(fault(&path, content), "fine", "{content:?}");
        }
    }
}
