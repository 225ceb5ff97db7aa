//! Talking to the running daemon.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DaemonArgs, NO, NO_DAEMON, USAGE};

/// How long a single call may take; the daemon answers from memory or one database read.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a call came to nothing, with the exit code that it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

/// The daemon said no.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
struct Answered {
    status: reqwest::StatusCode,
    detail: String,
}

impl Failure {
    /// Whether the daemon answered that there is no such thing; any other failure says nothing about that.
    pub(crate) fn is_not_found(&self) -> bool {
        let answered = self.error.downcast_ref::<Answered>();
        answered.is_some_and(|answered| answered.status == reqwest::StatusCode::NOT_FOUND)
    }

    pub(crate) fn usage(error: anyhow::Error) -> Self {
        Self { code: USAGE, error }
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: reqwest::Url,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(args: &DaemonArgs) -> Result<Self, Failure> {
        let base = reqwest::Url::parse(&args.url)
            .with_context(|| format!("--url {:?} is not an address", args.url))
            .map_err(Failure::usage)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(Failure::usage(anyhow!("--url {base} is neither http nor https")));
        }
        let token = match &args.token_file {
            None => None,
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("the token file {} can't be read", path.display()))
                    .map_err(Failure::usage)?
                    .trim()
                    .to_owned(),
            ),
        };
        crate::net::tls::install();
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("the HTTP client can't be set up")
            .map_err(Failure::usage)?;
        Ok(Self { http, base, token })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Failure> {
        let text = self.get_text(path, query).await?;
        decode(&text)
    }

    pub(crate) async fn get_text(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, Failure> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.http.get(url)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, Failure> {
        let text = self.send(self.http.post(self.url(path)?).json(body)).await?;
        decode(&text)
    }

    /// Path segments are escaped, so that a name can't reach another address.
    fn url(&self, path: &[&str]) -> Result<reqwest::Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::usage(anyhow!("--url {} can't have a path", self.base)))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        Ok(url)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<String, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let request = request.header("x-rollbackd-by", operator());
        let response = request.send().await.map_err(|error| Failure {
            code: NO_DAEMON,
            error: anyhow!(error.without_url()).context(format!("no daemon answers at {}", self.base)),
        })?;
        let status = response.status();
        let text = response.text().await.map_err(|error| Failure {
            code: NO_DAEMON,
            error: anyhow!(error.without_url()).context(format!("the daemon at {} broke off", self.base)),
        })?;
        if status.is_success() { Ok(text) } else { Err(problem(status, &text)) }
    }
}

/// Who asks, as the record will name them: a user's name, or its number where the environment has no name.
fn operator() -> String {
    who(|name| std::env::var(name).ok(), rustix::process::getuid().as_raw())
}

fn who(variable: impl Fn(&str) -> Option<String>, uid: u32) -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter().filter_map(variable);
    let plain = |name: String| name.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
    names.map(plain).find(|name| !name.is_empty()).unwrap_or_else(|| format!("uid:{uid}"))
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure {
        code: NO,
        error: anyhow!(error).context("the daemon's answer is not what this version expects"),
    })
}

fn problem(status: reqwest::StatusCode, text: &str) -> Failure {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let detail = ["detail", "title"].iter().find_map(|key| body.get(key)?.as_str());
    let detail = detail.map_or_else(|| format!("the daemon answered {status}"), str::to_owned);
    Failure { code: NO, error: anyhow!(Answered { status, detail }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_has_a_name_or_a_number() {
        for (variables, expected) in [
            (&[("SUDO_USER", "eve"), ("USER", "root")][..], "eve"),
            (&[("SUDO_USER", ""), ("USER", "root")], "root"),
            (&[("USER", "\u{5c71}\u{7530}"), ("LOGNAME", "yamada")], "yamada"),
            (&[], "uid:1000"),
        ] {
            let variable = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.to_owned());
            assert_eq!(who(variable, 1000), expected, "{variables:?}");
        }
    }
}
