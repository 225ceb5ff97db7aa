//! What a secret must look like to be of use, so that a wrong one is found before it is needed. Nothing here repeats any
//! part of what it refuses.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

/// Secrets that sign at the same time: the old one and the new one.
pub const SIGNING_SECRETS: usize = 2;

/// What a signing secret begins with where the rest is its base64, as the Standard Webhooks specification has it.
const ENCODED: &str = "whsec_";

/// Bytes of a signing key, as the same specification asks for.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// Characters of a PagerDuty integration key, all of them letters and digits.
const ROUTING_KEY_LENGTH: usize = 32;

/// What is wrong with a secret, as the end of a sentence that begins with its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What it is instead.
    pub what: &'static str,
    /// What to write.
    pub hint: &'static str,
}

/// The keys that sign a webhook: one or two secrets, one a line. What begins with `whsec_` is base64; of anything else the text
/// itself is the key, whatever it looks like.
///
/// # Errors
///
/// More than two secrets, or one that begins with `whsec_` and goes on with something else than base64.
pub fn signing_keys(text: &str) -> Result<Vec<Vec<u8>>, Malformed> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > SIGNING_SECRETS {
        return Err(Malformed { what: "holds more than two secrets", hint: "one a line: the new one and the old one" });
    }
    lines.into_iter().map(signing_key).collect()
}

fn signing_key(line: &str) -> Result<Vec<u8>, Malformed> {
    let Some(encoded) = line.strip_prefix(ENCODED) else { return Ok(line.as_bytes().to_vec()) };
    match STANDARD.decode(encoded) {
        Ok(key) if !key.is_empty() => Ok(key),
        Ok(_) | Err(_) => Err(Malformed {
            what: "has a whsec_ secret that is not base64",
            hint: "after `whsec_` comes standard base64 with its padding; anything else is written without the prefix",
        }),
    }
}

/// What is allowed in secrets that sign, and most likely not meant: one line a doubt, each the end of a sentence that begins
/// with the file.
#[must_use]
pub fn signing_doubts(text: &str) -> Vec<String> {
    let Ok(keys) = signing_keys(text) else { return Vec::new() };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut doubts = Vec::new();
    for (line, key) in lines.zip(keys) {
        // What has the prefix was decoded already.
        if !line.starts_with(ENCODED) && STANDARD.decode(line).is_ok() {
            doubts.push(format!(
                "has a secret that reads as base64: here its text is the key, and libraries of the specification decode it; \
                 `{ENCODED}` before it says that it is base64, before the base64 of its text that it is not"
            ));
        }
        if !KEY_BYTES.contains(&key.len()) {
            let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
            doubts.push(format!("has a key of {} bytes: the specification asks for {least} to {most}", key.len()));
        }
    }
    doubts
}

/// A routing key of PagerDuty's events interface, whoever speaks it.
///
/// # Errors
///
/// Anything but one word on one line.
pub fn routing_key(text: &str) -> Result<&str, Malformed> {
    let key = text.trim();
    if key.is_empty() || key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Malformed {
            what: "holds more than a routing key",
            hint: "the file holds the key and nothing else",
        });
    }
    Ok(key)
}

/// An integration key of PagerDuty itself.
///
/// # Errors
///
/// As [`routing_key`], and anything but 32 letters and digits.
pub fn pagerdutys_key(text: &str) -> Result<&str, Malformed> {
    let key = routing_key(text)?;
    if key.len() != ROUTING_KEY_LENGTH || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Malformed {
            what: "does not hold an integration key of PagerDuty's",
            hint: "it has 32 letters and digits: see the service's integration \"Events API v2\"",
        });
    }
    Ok(key)
}

/// An address that is a secret itself.
///
/// # Errors
///
/// Anything but an `http` or `https` URL.
pub fn address(text: &str) -> Result<Url, Malformed> {
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) | Err(_) => Err(Malformed {
            what: "does not hold an http or https URL",
            hint: "the file holds the whole address and nothing else",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<T>(result: Result<T, Malformed>) -> Option<&'static str> {
        result.err().map(|malformed| malformed.what)
    }

    #[test]
    fn signing_secrets_are_plain_or_base64_and_two_at_most() {
        assert_eq!(signing_keys("plain\n\nwhsec_aGk=\n"), Ok(vec![b"plain".to_vec(), b"hi".to_vec()]));
        for wrong in ["whsec_", "whsec_aGk", "whsec_!!", "whsec_a-_b", "fine\nwhsec_aGk"] {
            assert_eq!(fault(signing_keys(wrong)), Some("has a whsec_ secret that is not base64"), "{wrong}");
        }
        assert_eq!(fault(signing_keys("a\nb\nc")), Some("holds more than two secrets"));
    }

    #[test]
    fn a_signing_secret_that_may_be_meant_otherwise_or_is_short_is_doubted() {
        let (base64, short) = ("has a secret that reads as base64: ", "has a key of ");
        for (text, expected) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[][..]),
            ("correct horse battery staple", &[]),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &[base64]),
            // As `openssl rand -hex` has it.
            ("00112233445566778899aabbccddeeff", &[base64]),
            ("whsec_MDAxMTIyMzM0NDU1NjY3Nzg4OTlhYWJiY2NkZGVlZmY=", &[]),
            ("whsec_aGk=", &[short]),
            ("hunter2", &[short]),
            ("hunter22", &[base64, short]),
            ("hunter2\nhunter2, hunter2, hunter2", &[short]),
            // An error of its own.
            ("whsec_hunter2", &[]),
        ] {
            let doubts = signing_doubts(text);
            assert_eq!(doubts.len(), expected.len(), "{text}: {doubts:?}");
            assert!(doubts.iter().zip(expected).all(|(doubt, begins)| doubt.starts_with(begins)), "{text}: {doubts:?}");
            assert!(doubts.iter().all(|doubt| !doubt.contains("hunter") && !doubt.contains("0011")), "{doubts:?}");
        }
        let long = signing_doubts(&"é".repeat(33));
        assert_eq!(long, ["has a key of 66 bytes: the specification asks for 24 to 64"]);
    }

    #[test]
    fn a_routing_key_is_one_word_and_pagerdutys_own_has_a_form() {
        assert_eq!(routing_key(" anything \n"), Ok("anything"));
        for wrong in ["", "two words", "a\nb", "a\u{7}b"] {
            assert_eq!(fault(routing_key(wrong)), Some("holds more than a routing key"), "{wrong:?}");
        }
        assert!(pagerdutys_key("R0123456789abcdef0123456789ABCDE\n").is_ok());
        for wrong in
            ["R0123456789abcdef0123456789ABCD", "R0123456789abcdef0123456789ABCDEF", "R012345678-abcdef0123456789ABCDE"]
        {
            assert_eq!(
                fault(pagerdutys_key(wrong)),
                Some("does not hold an integration key of PagerDuty's"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_address_is_a_url_that_is_spoken() {
        assert!(address("https://hooks.example.com/x\n").is_ok());
        for wrong in ["", "hooks.example.com/x", "ftp://x/"] {
            assert_eq!(fault(address(wrong)), Some("does not hold an http or https URL"), "{wrong}");
        }
    }
}
