//! What is looked at over HTTP: who lists it, and what each address is called.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Url;

use crate::config::model::{Endpoint, HealthEndpoint};
use crate::domain::id::TargetId;

/// What one list names: a policy, a file of targets, the pods of a workload.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Addresses {
    pub(super) pages: Vec<Endpoint>,
    pub(super) probes: Vec<HealthEndpoint>,
}

/// The pages of all lists, each under its name.
pub(super) fn pages<'a>(lists: impl Iterator<Item = &'a Addresses>) -> Vec<(TargetId, Endpoint)> {
    named(lists.map(|list| list.pages.as_slice()), |endpoint| &endpoint.url)
}

/// The health endpoints of all lists, each under its name.
pub(super) fn probes<'a>(lists: impl Iterator<Item = &'a Addresses>) -> Vec<(TargetId, HealthEndpoint)> {
    named(lists.map(|list| list.probes.as_slice()), |health| &health.endpoint.url)
}

/// What more than one list names is looked at once, as the first of them has it.
fn named<'a, T: Clone + 'a>(lists: impl Iterator<Item = &'a [T]>, url: fn(&T) -> &Url) -> Vec<(TargetId, T)> {
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    for list in lists {
        let new = found.len();
        found.extend(list.iter().filter(|one| !known.contains(url(one))));
        known.extend(found[new..].iter().map(|one| url(one)));
    }
    let names = target_names(&found.iter().map(|one| url(one)).collect::<Vec<_>>());
    names.into_iter().zip(found.into_iter().cloned()).collect()
}

/// `host:port` for each URL. Where two have that in common the path is added, and where that is not enough a number.
fn target_names(urls: &[&Url]) -> Vec<TargetId> {
    let short = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    let long = |url: &Url| format!("{}{}", short(url), url.path());
    let counts = |name: &dyn Fn(&Url) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for url in urls {
            *counts.entry(name(url)).or_default() += 1;
        }
        counts
    };
    let (shorts, mut used) = (counts(&short), BTreeMap::<String, usize>::new());
    let mut names = Vec::with_capacity(urls.len());
    for url in urls {
        let name = if shorts.get(&short(url)) == Some(&1) { short(url) } else { long(url) };
        let uses = used.entry(name.clone()).or_default();
        *uses += 1;
        names.push(if *uses == 1 { TargetId::new(&name) } else { TargetId::new(format!("{name}#{uses}")) });
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn targets_are_named_by_address_and_by_more_where_that_is_needed() {
        let urls = [
            "http://a:9100/metrics",
            "http://b/metrics",
            "https://b/metrics",
            "http://c:1/metrics",
            "http://c:1/other?token=x",
            "http://c:1/metrics",
            "http://[::1]:2/metrics",
        ]
        .map(|url| Url::parse(url).unwrap());
        let names = target_names(&urls.iter().collect::<Vec<_>>());
        let names: Vec<&str> = names.iter().map(TargetId::as_str).collect();
        assert_eq!(names, ["a:9100", "b:80", "b:443", "c:1/metrics", "c:1/other", "c:1/metrics#2", "[::1]:2"]);
    }
    #[test]
    fn what_two_lists_name_is_looked_at_once_and_names_are_unique_over_all() {
        let list = |urls: &[&str]| {
            let page = |url: &&str| Endpoint { instance: None, url: Url::parse(url).unwrap(), http: Arc::default() };
            Addresses { pages: urls.iter().map(page).collect(), probes: Vec::new() }
        };
        let lists = [
            list(&["http://a:1/metrics", "http://c:1/metrics", "http://c:1/metrics"]),
            list(&["http://b:1/metrics", "http://a:1/metrics", "http://b:1/other"]),
            list(&["http://b:1/other", "http://c:1/metrics"]),
        ];
        let found: Vec<String> =
            pages(lists.iter()).iter().map(|(name, page)| format!("{name} {}", page.url)).collect();
        assert_eq!(
            found,
            [
                "a:1 http://a:1/metrics",
                "c:1/metrics http://c:1/metrics",
                "c:1/metrics#2 http://c:1/metrics",
                "b:1/metrics http://b:1/metrics",
                "b:1/other http://b:1/other",
            ]
        );
    }
}
