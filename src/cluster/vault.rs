//! Secrets leave the memory of this process only sealed: by AES-256-GCM, with a key from a file of the operator's.
//!
//! What stands for a Secret's content is keyed as well, since a short password could otherwise be found by trying.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::settings::ContentId;

/// Characters that a key's file must have at least: 32 random bytes have 44 in base64.
pub const SHORTEST_KEY: usize = 32;

/// Seals and opens, and says what stands for a content.
pub struct Vault {
    ids: hmac::Key,
    seal: LessSafeKey,
    /// Tells one key from another.
    scheme: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

/// Why there is no vault.
#[derive(Debug, thiserror::Error)]
pub enum NoVault {
    /// The key could be guessed.
    #[error("the key has fewer than {SHORTEST_KEY} characters; `head -c 32 /dev/urandom | base64` makes one")]
    TooShort,
    /// The key can't be used.
    #[error("the key can't be used")]
    Unusable,
}

impl Vault {
    /// With a key of the operator's. Each use has a key of its own, derived from it.
    ///
    /// # Errors
    /// [`NoVault`].
    pub fn new(secret: &str) -> Result<Self, NoVault> {
        if secret.len() < SHORTEST_KEY {
            return Err(NoVault::TooShort);
        }
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let derived = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        let seal =
            UnboundKey::new(&AES_256_GCM, derived("rollbackd seal 1").as_ref()).map_err(|_| NoVault::Unusable)?;
        Ok(Self {
            ids: hmac::Key::new(hmac::HMAC_SHA256, derived("rollbackd content 1").as_ref()),
            seal: LessSafeKey::new(seal),
            scheme: hex(derived("rollbackd scheme 1").as_ref().get(..4).unwrap_or_default()),
            random: SystemRandom::new(),
        })
    }

    /// What stands for a content.
    #[must_use]
    pub fn id(&self, content: &[u8]) -> ContentId {
        ContentId::new(format!("{}-{}", self.scheme, hex(hmac::sign(&self.ids, content).as_ref())))
    }

    /// Seals a content; it can be opened only as this one.
    ///
    /// # Errors
    /// Where the operating system has no random numbers.
    pub fn seal(&self, id: &ContentId, content: &[u8]) -> Result<Vec<u8>, String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| "there are no random numbers".to_owned())?;
        let mut sealed = content.to_vec();
        let aad = Aad::from(id.as_str().as_bytes());
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| "it can't be sealed".to_owned())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// It was sealed with another key, as something else, or is damaged.
    pub fn open(&self, id: &ContentId, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let closed = || "it can't be opened: it was sealed with another key, or is damaged".to_owned();
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(closed)?;
        let mut rest = rest.to_vec();
        let aad = Aad::from(id.as_str().as_bytes());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.seal.open_in_place(nonce, aad, &mut rest).map_err(|_| closed())?;
        Ok(opened.to_vec())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(key: &str) -> Vault {
        Vault::new(&key.repeat(SHORTEST_KEY)).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_as_the_same_thing_only() {
        let (ours, other) = (vault("a"), vault("b"));
        let id = ours.id(b"hunter2");
        assert_eq!(
            (ours.id(b"hunter2") == id, ours.id(b"hunter3") == id, other.id(b"hunter2") == id),
            (true, false, false)
        );
        assert!(!id.is_comparable(&other.id(b"hunter2")) && id.is_comparable(&ours.id(b"x")));
        let sealed = ours.seal(&id, b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(sealed, ours.seal(&id, b"hunter2").unwrap(), "two seals of the same content tell nothing");
        assert_eq!(ours.open(&id, &sealed).unwrap(), b"hunter2");
        assert!(ours.open(&ours.id(b"x"), &sealed).is_err());
        assert!(other.open(&id, &sealed).is_err());
        let mut damaged = sealed;
        damaged[NONCE_LEN] ^= 1;
        assert!(ours.open(&id, &damaged).is_err());
        assert!(ours.open(&id, b"short").is_err());
    }

    #[test]
    fn a_key_that_could_be_guessed_is_refused() {
        assert!(matches!(Vault::new("hunter2"), Err(NoVault::TooShort)));
    }
}
