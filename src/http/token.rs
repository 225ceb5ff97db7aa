//! Who may change something: whoever bears the token.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::net::secret::SecretFile;

/// The bearer token, or that there is none. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Token(Arc<RwLock<Option<Arc<SecretFile>>>>);

impl Token {
    /// The token in this file, which is read anew when it changes; none: every call that changes something is refused.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        let token = Self(Arc::default());
        token.set(file);
        token
    }

    /// From now on the token is in this file, or there is none.
    pub fn set(&self, file: Option<PathBuf>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = file.map(SecretFile::new).map(Arc::new);
    }

    fn file(&self) -> Option<Arc<SecretFile>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is one; without it nothing can be changed through the server.
    #[must_use]
    pub(super) fn is_set_up(&self) -> bool {
        self.file().is_some()
    }

    /// Whether these headers bear the token.
    ///
    /// # Errors
    /// The problem to answer with where they don't: 403 where no token is set up, 401 where it is missing or wrong.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(file) = self.file() else {
            let detail = "calls that change something are refused, because no token is set up: write a secret to a file \
                          that only the daemon and its operators can read, and name it as `token_file` in [daemon]";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        };
        let expected = file.read().await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the token file can't be used");
            Problem::unavailable("the token file can't be used; the log says why")
        })?;
        let challenge = |detail: &str| {
            Problem::new(StatusCode::UNAUTHORIZED, detail)
                .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rollbackd\""))
        };
        let borne = bearer(headers).ok_or_else(|| challenge("the bearer token is missing"))?;
        // Digests are compared, so that not even the length shows in the time it takes.
        let (borne, expected) = (Sha256::digest(borne), Sha256::digest(expected.expose_secret()));
        if bool::from(borne.ct_eq(&expected)) { Ok(()) } else { Err(challenge("the bearer token is wrong")) }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (all.next()?, all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}
