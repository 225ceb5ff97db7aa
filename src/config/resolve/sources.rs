//! Where a workload is observed: addresses put together, each with the instance behind it where that is known.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::HeaderName;

use super::habitat::Instance;
use super::{Resolver, http, pods};
use crate::config::model::{Endpoint, FileTargets, HealthEndpoint, HttpOptions, RevisionFrom, Sources};
use crate::config::raw;
use crate::config::raw::decode::{At, value};
use crate::config::raw::section::Lost;
use crate::config::raw::sources::Scheme;
use crate::config::raw::text::Port;
use crate::config::source::Place;
use crate::config::suggest;
use crate::domain::id::InstanceId;

/// The keys that give addresses, each in its own way.
const ADDRESSES: [&str; 4] = ["port", "url", "urls", "sd_file"];

/// Where exposition pages are, by Prometheus' convention.
pub(super) const METRICS_PATH: &str = "/metrics";

/// Where health endpoints are, in the procedures.
pub(super) const HEALTH_PATH: &str = "/health";

pub(super) fn resolve(
    r: &mut Resolver<'_>,
    raw: &raw::workload::Policy,
    is_in_cluster: bool,
    instances: &[Instance],
) -> Sources {
    if is_in_cluster {
        return pods::resolve(r, raw);
    }
    let mut sources = Sources::default();
    scrape(r, raw.scrape.as_ref(), instances, &mut sources);
    health(r, raw.health.as_ref(), instances, &mut sources);
    distinct(r, raw, instances);
    sources
}

fn scrape(
    r: &mut Resolver<'_>,
    written: Option<&At<raw::sources::Scrape>>,
    instances: &[Instance],
    sources: &mut Sources,
) {
    let own = own_addresses(instances, |instance| instance.scrape.as_ref());
    let raw = written.map(|at| at.value.clone()).unwrap_or_default();
    let http = Arc::new(http::resolve(r, &raw.http));
    if let Some(at) = written {
        let written = Written {
            section: "scrape",
            key: at.key,
            lost: &raw.lost,
            port: raw.port.as_ref(),
            url: raw.url.as_ref(),
            urls: raw.urls.as_ref(),
            sd_file: raw.sd_file.as_ref(),
            scheme: raw.scheme.as_ref(),
            path: raw.path.as_ref(),
            default_path: METRICS_PATH,
            instances_have_own: !own.is_empty(),
        };
        let urls = written.addresses(r);
        sources.scrape.extend(endpoints(urls, instances, &http));
        if let Some(file) = &raw.sd_file {
            if file.value.extension().is_none_or(|extension| extension != "json") {
                r.problems
                    .wrong(file.at, "`sd_file` is not a .json file")
                    .hint("targets are read in Prometheus' file_sd JSON format");
            }
            sources.scrape_files.push(FileTargets {
                path: r.path(file),
                scheme: value(&raw.scheme).unwrap_or(Scheme::Http).as_str().to_owned(),
                page: value(&raw.path).unwrap_or_else(|| METRICS_PATH.to_owned()),
                http: http.clone(),
            });
        }
    }
    sources.scrape.extend(own.into_iter().map(|(id, url)| Endpoint { instance: Some(id), url, http: http.clone() }));
}

fn health(
    r: &mut Resolver<'_>,
    written: Option<&At<raw::sources::Health>>,
    instances: &[Instance],
    sources: &mut Sources,
) {
    let own = own_addresses(instances, |instance| instance.health.as_ref());
    let raw = written.map(|at| at.value.clone()).unwrap_or_default();
    let http = Arc::new(http::resolve(r, &raw.http));
    let mut found = Vec::new();
    if let Some(at) = written {
        let written = Written {
            section: "health",
            key: at.key,
            lost: &raw.lost,
            port: raw.port.as_ref(),
            url: raw.url.as_ref(),
            urls: raw.urls.as_ref(),
            sd_file: None,
            scheme: raw.scheme.as_ref(),
            path: raw.path.as_ref(),
            default_path: HEALTH_PATH,
            instances_have_own: !own.is_empty(),
        };
        let urls = written.addresses(r);
        found.extend(endpoints(urls, instances, &http));
    }
    found.extend(own.into_iter().map(|(id, url)| Endpoint { instance: Some(id), url, http: http.clone() }));
    let expect = raw.expect.as_ref().map(|at| at.value.0.clone()).unwrap_or_default();
    let revision = revision(r, &raw);
    sources.health.extend(found.into_iter().map(|endpoint| HealthEndpoint {
        endpoint,
        expect: expect.clone(),
        revision: revision.clone(),
    }));
}

pub(super) fn revision(r: &mut Resolver<'_>, raw: &raw::sources::Health) -> Option<RevisionFrom> {
    match (&raw.revision_header, &raw.revision_json) {
        (Some(header), None) => {
            if HeaderName::from_bytes(header.value.as_bytes()).is_err() {
                r.problems
                    .wrong(header.at, format!("{} is not a header's name", suggest::quoted(&header.value)))
                    .hint(super::http::HEADER_NAME);
            }
            Some(RevisionFrom::Header(header.value.clone()))
        }
        (None, Some(json)) => Some(RevisionFrom::Json(json.value.clone())),
        (Some(header), Some(json)) => {
            let later = header.key.max(json.key);
            r.problems
                .wrong(later, "`revision_header` and `revision_json` together")
                .hint("one of them says which release answered: keep that");
            None
        }
        (None, None) => None,
    }
}

fn own_addresses<'a>(
    instances: &'a [Instance],
    address: impl Fn(&'a Instance) -> Option<&'a At<Url>>,
) -> Vec<(InstanceId, Url)> {
    instances
        .iter()
        .filter_map(|instance| address(instance).map(|at| (instance.id.clone(), at.value.clone())))
        .collect()
}

/// With one instance, whatever answers is that one.
fn endpoints(urls: Vec<Url>, instances: &[Instance], http: &Arc<HttpOptions>) -> Vec<Endpoint> {
    let only = match instances {
        [only] => Some(only.id.clone()),
        _ => None,
    };
    urls.into_iter().map(|url| Endpoint { instance: only.clone(), url, http: http.clone() }).collect()
}

/// Everything that says where something is.
struct Written<'a> {
    section: &'static str,
    key: Place,
    /// Keys of the section that were reported already.
    lost: &'a Lost,
    port: Option<&'a At<Port>>,
    url: Option<&'a At<Url>>,
    urls: Option<&'a At<Vec<At<Url>>>>,
    sd_file: Option<&'a At<PathBuf>>,
    scheme: Option<&'a At<Scheme>>,
    path: Option<&'a At<String>>,
    default_path: &'static str,
    instances_have_own: bool,
}

impl Written<'_> {
    /// The addresses, after a check that they are given in exactly one way.
    fn addresses(&self, r: &mut Resolver<'_>) -> Vec<Url> {
        self.check_ways(r);
        self.check_parts(r);
        let mut urls: Vec<Url> = self.url.iter().map(|at| at.value.clone()).collect();
        urls.extend(self.urls.iter().flat_map(|at| &at.value).map(|at| at.value.clone()));
        let path_begins_well = self.path.is_none_or(|path| path.value.starts_with('/'));
        if let Some(port) = self.port.filter(|_| path_begins_well) {
            let scheme = self.scheme.map_or(Scheme::Http, |at| at.value).as_str();
            let path = self.path.map_or(self.default_path, |at| &at.value);
            let Port::Number(number) = port.value else {
                r.problems
                    .wrong(port.at, "a port by name, outside of Kubernetes")
                    .hint("names are given by a pod's containers: write the number");
                return urls;
            };
            match Url::parse(&format!("{scheme}://127.0.0.1:{number}{path}")) {
                Ok(url) => urls.push(url),
                Err(why) => {
                    r.problems.wrong(port.at, format!("port and path make no URL: {why}"));
                }
            }
        }
        urls
    }

    fn check_ways(&self, r: &mut Resolver<'_>) {
        let mut given = self.lost.among(&ADDRESSES);
        given.extend(self.port.map(|at| (at.key, "port")));
        given.extend(self.url.map(|at| (at.key, "url")));
        given.extend(self.urls.map(|at| (at.key, "urls")));
        given.extend(self.sd_file.map(|at| (at.key, "sd_file")));
        given.sort_unstable();
        for (key, name) in given.iter().skip(1) {
            r.problems
                .wrong(*key, format!("`{name}` beside `{}`", given[0].1))
                .hint("the addresses are given in one way: keep one of them");
        }
        if given.is_empty() && !self.instances_have_own && !self.lost.may_be(&ADDRESSES) {
            let section = self.section;
            r.problems
                .absent(self.key, format!("`{section}` has no address"))
                .hint(format!("write {section} = {{ port = 8080 }} or {section} = {{ url = \"http://…\" }}"));
        }
        if let Some(urls) = self.urls.filter(|urls| urls.value.is_empty()) {
            r.problems.wrong(urls.at, "`urls` is empty").hint("a workload that is not looked at can't be judged");
        }
    }

    /// Path and scheme are for addresses that are put together.
    fn check_parts(&self, r: &mut Resolver<'_>) {
        let whole = self.url.is_some() || self.urls.is_some() || self.instances_have_own;
        if whole && self.port.is_none() && self.sd_file.is_none() {
            for (name, key) in [("path", self.path.map(|at| at.key)), ("scheme", self.scheme.map(|at| at.key))] {
                if let Some(key) = key {
                    r.problems.wrong(key, format!("`{name}` beside a whole address")).hint("it is part of the URL");
                }
            }
        }
        if let Some(path) = self.path.filter(|path| !path.value.starts_with('/')) {
            r.problems
                .wrong(path.at, "`path` does not begin with `/`")
                .hint(format!("write \"/{}\"", path.value.escape_debug()));
        }
    }
}

/// One address twice would count its requests twice.
fn distinct(r: &mut Resolver<'_>, raw: &raw::workload::Policy, instances: &[Instance]) {
    let scrape =
        raw.scrape.iter().flat_map(|at| at.value.url.iter().chain(at.value.urls.iter().flat_map(|at| &at.value)));
    let health =
        raw.health.iter().flat_map(|at| at.value.url.iter().chain(at.value.urls.iter().flat_map(|at| &at.value)));
    let scrape = scrape.chain(instances.iter().filter_map(|instance| instance.scrape.as_ref()));
    let health = health.chain(instances.iter().filter_map(|instance| instance.health.as_ref()));
    for urls in [scrape.collect::<Vec<_>>(), health.collect()] {
        let mut seen = BTreeSet::new();
        for url in urls {
            if !seen.insert(&url.value) {
                r.problems
                    .wrong(url.at, "the same address a second time")
                    .hint("each is read once, so that nothing counts twice");
            }
        }
    }
}
