//! Where a workload is observed: `scrape` and `health`.

use std::path::PathBuf;

use reqwest::Url;

use super::decode::At;
use super::http::Http;
use super::scalar::{FromText, Refusal, choice};
use super::section::section;
use super::text::{Expect, Port};
use crate::config::suggest;

/// What a URL that is put together begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

use serde_json::Value;
choice!(Scheme, "a scheme", { "http" => Scheme::Http, "https" => Scheme::Https, });

section! {
    /// Exposition pages: exactly one of port, url, urls and sd_file, unless the instances have their own.
    Scrape {
        /// Port on the loopback address; in Kubernetes the port of every ready pod, by number or by name.
        port: Port,
        /// Path of the page, with `port` or `sd_file`.
        path: String,
        /// http or https, with `port` or `sd_file`.
        scheme: Scheme,
        /// One address.
        url: Url,
        /// Several addresses.
        urls: Vec<At<Url>>,
        /// File of targets in Prometheus' file_sd JSON format, read anew when it changes.
        sd_file: PathBuf,
    }
    flatten { http: Http }
}

section! {
    /// Health endpoints: exactly one of port, url and urls, unless the instances have their own.
    Health {
        /// Port on the loopback address; in Kubernetes the port of every ready pod, by number or by name.
        port: Port,
        /// Path, with `port`.
        path: String,
        /// http or https, with `port`.
        scheme: Scheme,
        /// One address.
        url: Url,
        /// Several addresses.
        urls: Vec<At<Url>>,
        /// Fields of the JSON body that must have these values; nested tables stand for nested objects. Without it any 2xx is healthy.
        expect: Expect,
        /// Response header that says which release answered.
        revision_header: String,
        /// Field of the JSON body that says which release answered; dots descend into objects.
        revision_json: String,
    }
    flatten { http: Http }
}
