//! Where the pods of a workload are observed: a port and a path; the addresses come from the cluster.

use std::sync::Arc;

use super::sources::{HEALTH_PATH, METRICS_PATH, revision};
use super::{Resolver, http};
use crate::config::model::{HttpOptions, PodEndpoint, PodHealth, PodPort, Sources};
use crate::config::raw;
use crate::config::raw::decode::{At, value};
use crate::config::raw::section::Lost;
use crate::config::raw::sources::Scheme;
use crate::config::raw::text::Port;
use crate::config::source::Place;

pub(super) fn resolve(r: &mut Resolver<'_>, raw: &raw::workload::Policy) -> Sources {
    Sources {
        pod_scrape: scrape(r, raw.scrape.as_ref()),
        pod_health: health(r, raw.health.as_ref()),
        ..Sources::default()
    }
}

fn scrape(r: &mut Resolver<'_>, at: Option<&At<raw::sources::Scrape>>) -> Option<PodEndpoint> {
    let At { key, value: raw, .. } = at?;
    let fixed = [
        ("url", raw.url.as_ref().map(|at| at.key)),
        ("urls", raw.urls.as_ref().map(|at| at.key)),
        ("sd_file", raw.sd_file.as_ref().map(|at| at.key)),
    ];
    let written = Written {
        section: "scrape",
        key: *key,
        lost: &raw.lost,
        port: raw.port.as_ref(),
        path: raw.path.as_ref(),
        scheme: raw.scheme.as_ref(),
    };
    let http = Arc::new(http::resolve(r, &raw.http));
    written.endpoint(r, &fixed, METRICS_PATH, http)
}

fn health(r: &mut Resolver<'_>, at: Option<&At<raw::sources::Health>>) -> Option<PodHealth> {
    let At { key, value: raw, .. } = at?;
    let fixed = [("url", raw.url.as_ref().map(|at| at.key)), ("urls", raw.urls.as_ref().map(|at| at.key))];
    let written = Written {
        section: "health",
        key: *key,
        lost: &raw.lost,
        port: raw.port.as_ref(),
        path: raw.path.as_ref(),
        scheme: raw.scheme.as_ref(),
    };
    let http = Arc::new(http::resolve(r, &raw.http));
    let endpoint = written.endpoint(r, &fixed, HEALTH_PATH, http);
    let expect = raw.expect.as_ref().map(|at| at.value.0.clone()).unwrap_or_default();
    let revision = revision(r, raw);
    Some(PodHealth { endpoint: endpoint?, expect, revision })
}

/// The keys that say where something is on each pod.
struct Written<'a> {
    section: &'static str,
    key: Place,
    /// Keys of the section that were reported already.
    lost: &'a Lost,
    port: Option<&'a At<Port>>,
    path: Option<&'a At<String>>,
    scheme: Option<&'a At<Scheme>>,
}

impl Written<'_> {
    fn endpoint(
        &self,
        r: &mut Resolver<'_>,
        fixed: &[(&str, Option<Place>)],
        default_path: &str,
        http: Arc<HttpOptions>,
    ) -> Option<PodEndpoint> {
        let section = self.section;
        let fixed: Vec<_> = fixed.iter().filter_map(|(name, key)| key.map(|key| (name, key))).collect();
        for (name, key) in &fixed {
            r.problems
                .wrong(*key, format!("`{name}` in Kubernetes"))
                .hint(format!("pods come and go: write {section} = {{ port = 8080 }} and each ready one is a target"));
        }
        if let Some(path) = self.path.filter(|path| !path.value.starts_with('/')) {
            r.problems
                .wrong(path.at, "`path` does not begin with `/`")
                .hint(format!("write \"/{}\"", path.value.escape_debug()));
        }
        let Some(port) = self.port else {
            if fixed.is_empty() && !self.lost.may_be(&["port"]) {
                r.problems
                    .absent(self.key, format!("`{section}` has no port"))
                    .hint(format!("write {section} = {{ port = 8080 }}, or the name that the container gives it"));
            }
            return None;
        };
        let port = match &port.value {
            Port::Number(number) => PodPort::Number(*number),
            Port::Name(name) => PodPort::Name(name.clone()),
        };
        Some(PodEndpoint {
            port,
            scheme: self.scheme.map_or(Scheme::Http, |at| at.value).as_str().to_owned(),
            path: value(&self.path.cloned()).unwrap_or_else(|| default_path.to_owned()),
            http,
        })
    }
}
