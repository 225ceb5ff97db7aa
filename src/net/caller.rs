//! A client and its credentials, as one set of HTTP options has them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Proxy, RequestBuilder, Url, redirect};
use secrecy::{ExposeSecret, SecretString};

use super::fault::classify;
use super::resolve::System;
use super::secret::{FILE_PATIENCE, SecretFile, SecretFileError, Stamp};
use super::tls::{self, TlsError};
use crate::config::model::{HttpOptions, TlsOptions};
use crate::domain::observation::{Fault, FaultKind};
use crate::host::disk::{Disk, Unanswered};

/// Longest time until a connection stands, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections to one host that are kept open between requests. Two, so that a page and a health probe share a host.
const IDLE_PER_HOST: usize = 2;

/// How long an unused connection is kept: longer than the usual scrape interval, shorter than most servers' patience.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// What the daemon calls itself.
const AGENT: &str = concat!("rollbackd/", env!("CARGO_PKG_VERSION"));

/// Why no client can be made from the options.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file is missing or of no use.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The TLS options are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file system of the TLS files hangs.
    #[error("the TLS files can't be read: {0}")]
    Unanswered(#[from] Unanswered),
    /// `proxy_url` is no address.
    #[error("proxy_url is not a valid address")]
    Proxy,
    /// A header's name or value has characters that no header may have.
    #[error("header {0:?} has a name or a value that can't be sent")]
    Header(String),
    /// The credentials have characters that no header may have.
    #[error("the credentials can't be sent in a header: they hold control characters")]
    Credentials,
    /// The client could not be built.
    #[error("the HTTP client can't be built: {0}")]
    Build(String),
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        Fault { kind: FaultKind::Local, detail: error.to_string() }
    }
}

/// A client without credentials: redirects off, no proxy but the options' own, [`CONNECT_TIMEOUT`] to connect.
///
/// # Errors
/// [`ClientError`] where a file or an option is of no use.
pub fn client(options: &HttpOptions) -> Result<Client, ClientError> {
    tls::install();
    let tls = match &options.tls {
        Some(given) => tls::client_config(given)?,
        None => tls::client_config(&TlsOptions::default())?,
    };
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(AGENT)
        .default_headers(fixed_headers(options)?)
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .dns_resolver(Arc::new(System))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT);
    if let Some(proxy) = &options.proxy_url {
        builder = builder.proxy(Proxy::all(proxy.as_str()).map_err(|_| ClientError::Proxy)?);
    }
    builder.build().map_err(|e| ClientError::Build(e.without_url().to_string()))
}

fn fixed_headers(options: &HttpOptions) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let bad = || ClientError::Header(name.clone());
        let parsed = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
        headers.insert(parsed, HeaderValue::try_from(value.as_str()).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// Sends requests under one set of options. The client is made at the first request and made anew when a TLS file
/// changes; credentials are read anew when their file changes.
#[derive(Debug)]
pub struct Caller {
    options: Arc<HttpOptions>,
    credentials: Option<Credentials>,
    built: Arc<Mutex<Option<Built>>>,
    disk: Disk,
}

/// A client, and the versions of the files that it was built from.
type Built = (Vec<Stamp>, Client);

#[derive(Debug)]
enum Credentials {
    Scheme { scheme: String, file: SecretFile },
    Basic { username: String, file: SecretFile },
}

impl Caller {
    /// Nothing is read or opened yet.
    #[must_use]
    pub fn new(options: Arc<HttpOptions>) -> Self {
        let credentials = match (&options.authorization, &options.basic_auth) {
            (Some(auth), _) => Some(Credentials::Scheme {
                scheme: auth.scheme.clone(),
                file: SecretFile::new(auth.credentials_file.clone()),
            }),
            (None, Some(basic)) => Some(Credentials::Basic {
                username: basic.username.clone(),
                file: SecretFile::new(basic.password_file.clone()),
            }),
            (None, None) => None,
        };
        Self { options, credentials, built: Arc::default(), disk: Disk::default() }
    }

    /// A request with the options' headers and credentials. The deadline is for the one who sends it to set.
    ///
    /// # Errors
    /// A [`FaultKind::Local`] fault where a file or an option is of no use.
    pub async fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Fault> {
        let request = self.client().await?.request(method, url);
        Ok(match self.authorization().await? {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        })
    }

    /// The headers that a request to a plain HTTP peer carries under these options, for one who has a connection of its
    /// own; `None` where the options lead through a proxy, and only [`Caller::request`] will do.
    ///
    /// # Errors
    /// A [`FaultKind::Local`] fault where a file or an option is of no use.
    pub async fn plain_headers(&self) -> Result<Option<HeaderMap>, Fault> {
        if self.options.proxy_url.is_some() {
            return Ok(None);
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.extend(fixed_headers(&self.options)?);
        if let Some(value) = self.authorization().await? {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Some(headers))
    }

    /// What a failed request was, without its URL.
    #[must_use]
    pub fn fault(&self, error: reqwest::Error) -> Fault {
        classify(error, self.options.proxy_url.is_some())
    }

    /// What of requests is secret, as it is kept and as it is sent, for those who must keep it out of what a peer sends back.
    ///
    /// # Errors
    /// [`SecretFileError`] where its file can't be read.
    pub async fn secrets(&self) -> Result<Vec<SecretString>, SecretFileError> {
        Ok(match &self.credentials {
            None => Vec::new(),
            Some(Credentials::Scheme { file, .. }) => vec![file.read().await?],
            Some(Credentials::Basic { username, file }) => {
                let password = file.read().await?;
                vec![basic(username, &password).into(), password]
            }
        })
    }

    async fn client(&self) -> Result<Client, ClientError> {
        let (options, built) = (Arc::clone(&self.options), Arc::clone(&self.built));
        let work = move || up_to_date(&options, &mut built.lock().unwrap_or_else(PoisonError::into_inner));
        match self.options.tls {
            Some(_) => self.disk.ask(FILE_PATIENCE, work).await?,
            None => work(),
        }
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, ClientError> {
        let text = match &self.credentials {
            None => return Ok(None),
            Some(Credentials::Scheme { scheme, file }) => format!("{scheme} {}", file.read().await?.expose_secret()),
            Some(Credentials::Basic { username, file }) => {
                format!("Basic {}", basic(username, &file.read().await?))
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Credentials)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The client that was built last, or another one where its files are others by now.
fn up_to_date(options: &HttpOptions, built: &mut Option<Built>) -> Result<Client, ClientError> {
    let stamps = tls_stamps(options)?;
    if let Some((known, client)) = built
        && *known == stamps
    {
        return Ok(client.clone());
    }
    let fresh = client(options)?;
    *built = Some((stamps, fresh.clone()));
    Ok(fresh)
}

fn tls_stamps(options: &HttpOptions) -> Result<Vec<Stamp>, SecretFileError> {
    let Some(tls) = &options.tls else { return Ok(Vec::new()) };
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file];
    files.into_iter().flatten().map(|path| Stamp::of(path)).collect()
}

/// A user and a password as HTTP's basic authentication has them (RFC 7617).
fn basic(username: &str, password: &SecretString) -> String {
    STANDARD.encode(format!("{username}:{}", password.expose_secret()))
}
