//! HTTP client options: secrets by reference, one way to authenticate, headers that can be sent.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};

use super::Resolver;
use crate::config::model::{Authorization, BasicAuth, HttpOptions, TlsOptions};
use crate::config::raw;
use crate::config::raw::decode::value;
use crate::config::referenced::Content;
use crate::config::suggest;

/// What a header's name may be made of.
pub(super) const HEADER_NAME: &str = "it is made of letters, digits and hyphens, for example X-Team";

/// Headers that the client sets itself, or that carry secrets.
const RESERVED: [&str; 10] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "proxy-authorization",
    "te",
    "transfer-encoding",
];

/// The scheme of an Authorization header that names none.
const DEFAULT_SCHEME: &str = "Bearer";

pub(super) fn resolve(r: &mut Resolver<'_>, raw: &raw::http::Http) -> HttpOptions {
    if let (Some(_), Some(basic)) = (&raw.authorization, &raw.basic_auth) {
        r.problems
            .wrong(basic.key, "`basic_auth` beside `authorization`")
            .hint("a request has one Authorization header: keep one of them");
    }
    HttpOptions {
        authorization: raw.authorization.as_ref().and_then(|at| authorization(r, &at.value)),
        basic_auth: raw.basic_auth.as_ref().and_then(|at| basic_auth(r, &at.value)),
        headers: headers(r, raw),
        tls: raw.tls_config.as_ref().map(|at| tls(r, at)),
        proxy_url: raw.proxy_url.as_ref().map(|at| at.value.0.to_string()),
    }
}

fn authorization(r: &mut Resolver<'_>, raw: &raw::http::Authorization) -> Option<Authorization> {
    if let Some(scheme) = &raw.scheme {
        let is_token = scheme.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if scheme.value.eq_ignore_ascii_case("basic") {
            r.problems
                .wrong(scheme.at, "the scheme `Basic`")
                .hint("use `basic_auth = { username = \"…\", password_file = \"…\" }`");
        } else if !is_token {
            r.problems.wrong(scheme.at, format!("{} is not an authentication scheme", suggest::quoted(&scheme.value)));
        }
    }
    let credentials_file = r.secret("credentials_file", raw.credentials_file.as_ref()?);
    Some(Authorization { scheme: value(&raw.scheme).unwrap_or_else(|| DEFAULT_SCHEME.to_owned()), credentials_file })
}

fn basic_auth(r: &mut Resolver<'_>, raw: &raw::http::BasicAuth) -> Option<BasicAuth> {
    if let Some(username) = raw.username.as_ref().filter(|at| at.value.contains(':')) {
        r.problems.wrong(username.at, "a user name with a `:`").hint("basic authentication ends the name there");
    }
    let password_file = r.secret("password_file", raw.password_file.as_ref()?);
    Some(BasicAuth { username: value(&raw.username)?, password_file })
}

fn headers(r: &mut Resolver<'_>, raw: &raw::http::Http) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for entry in raw.headers.iter().flat_map(|at| &at.value.0) {
        let name = entry.name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            let problem = r.problems.wrong(entry.key, format!("the header `{name}` can't be set here"));
            match name.as_str() {
                "authorization" | "cookie" | "proxy-authorization" => problem
                    .hint("secrets are read only from files: use `authorization = { credentials_file = \"…\" }` or `basic_auth`"),
                _ => problem.hint("the client sets it itself"),
            }
        } else if HeaderName::from_bytes(name.as_bytes()).is_err() {
            r.problems
                .wrong(entry.key, format!("{} is not a header's name", suggest::quoted(&entry.name)))
                .hint(HEADER_NAME);
        } else if HeaderValue::from_str(&entry.value).is_err() {
            r.problems
                .wrong(entry.key, format!("the value of the header `{name}` can't be sent"))
                .hint("it is one line of visible ASCII characters and blanks");
        }
        if headers.insert(name.clone(), entry.value.clone()).is_some() {
            r.problems
                .wrong(entry.key, format!("the header `{name}` a second time"))
                .hint("upper and lower case are the same to a server: keep one");
        }
    }
    headers
}

fn tls(r: &mut Resolver<'_>, at: &raw::decode::At<raw::http::TlsConfig>) -> TlsOptions {
    let raw = &at.value;
    match (&raw.cert_file, &raw.key_file) {
        (Some(alone), None) if !raw.lost.may_be(&["key_file"]) => {
            r.problems.absent(alone.key, "`cert_file` without `key_file`").hint("a client certificate needs both")
        }
        (None, Some(alone)) if !raw.lost.may_be(&["cert_file"]) => {
            r.problems.absent(alone.key, "`key_file` without `cert_file`").hint("a client certificate needs both")
        }
        _ => {}
    }
    TlsOptions {
        ca_file: raw.ca_file.as_ref().map(|at| r.referenced("ca_file", at, Content::Certificates)),
        cert_file: raw.cert_file.as_ref().map(|at| r.referenced("cert_file", at, Content::Certificates)),
        key_file: raw.key_file.as_ref().map(|at| r.secret("key_file", at)),
        server_name: value(&raw.server_name),
        insecure_skip_verify: value(&raw.insecure_skip_verify).unwrap_or(false),
    }
}
