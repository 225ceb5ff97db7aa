//! Prometheus' HTTP client configuration, by its names.

use std::path::PathBuf;

use super::decode::Named;
use super::scalar::ProxyUrl;
use super::section::section;

section! {
    /// The Authorization header.
    Authorization {
        /// The scheme.
        scheme as "type": String,
        /// File that holds the credentials.
        credentials_file: PathBuf = required,
    }
    refused {
        "credentials": "secrets are read only from files: use `credentials_file`",
    }
}

section! {
    /// HTTP basic authentication.
    BasicAuth {
        /// User name.
        username: String = required,
        /// File that holds the password.
        password_file: PathBuf = required,
    }
    refused {
        "password": "secrets are read only from files: use `password_file`",
    }
}

section! {
    /// TLS towards a server.
    TlsConfig {
        /// PEM file of the roots to trust instead of the system's.
        ca_file: PathBuf,
        /// PEM file of the client certificate chain.
        cert_file: PathBuf,
        /// PEM file of the client key.
        key_file: PathBuf,
        /// Name to verify instead of the URL's host.
        server_name: String,
        /// Verify nothing.
        insecure_skip_verify: bool,
    }
    refused {
        "key": "secrets are read only from files: use `key_file`",
        "cert": "use `cert_file`",
        "ca": "use `ca_file`",
    }
}

section! {
    /// How something is reached over HTTP.
    Http {
        /// The Authorization header.
        authorization: Authorization,
        /// HTTP basic authentication.
        basic_auth: BasicAuth,
        /// Fixed request headers, without secrets.
        headers: Named<String>,
        /// TLS towards the server.
        tls_config: TlsConfig,
        /// Proxy to go through.
        proxy_url: ProxyUrl,
    }
    unsupported {
        "oauth2": "use `authorization = { credentials_file = \"…\" }` with a token that is kept fresh",
    }
    refused {
        "bearer_token": "secrets are read only from files: use `authorization = { credentials_file = \"…\" }`",
        "bearer_token_file": "use `authorization = { credentials_file = \"…\" }`",
        "follow_redirects": "redirects are never followed: name the address that answers",
        "http_headers": "use `headers = { NAME = \"VALUE\" }`",
    }
}
