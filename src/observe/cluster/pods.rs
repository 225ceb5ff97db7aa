//! Pods in service as addresses to look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::cluster::facts::Pod;
use crate::config::model::{Endpoint, HealthEndpoint, PodEndpoint, PodHealth, PodPort};
use crate::domain::id::InstanceId;
use crate::observe::addresses::Addresses;

/// What every pod of a workload offers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::observe) struct Offer {
    pub(in crate::observe) scrape: Option<PodEndpoint>,
    pub(in crate::observe) health: Option<PodHealth>,
}

/// The looks at these pods; at the daemon's own, where it is one of them, over loopback: what it shares its pod with may
/// listen nowhere else.
pub(super) fn addresses<'a>(
    pods: impl Iterator<Item = &'a Pod> + Clone,
    offer: &Offer,
    own: Option<&str>,
) -> Addresses {
    let each = |offered: &PodEndpoint| -> Vec<Endpoint> {
        let address = |pod: &Pod| if own == Some(&*pod.name) { pod.ip.map(loopback) } else { pod.ip };
        pods.clone().filter_map(|pod| endpoint(pod, address(pod)?, offered)).collect()
    };
    let pages = offer.scrape.as_ref().map(each).unwrap_or_default();
    let probes = offer
        .health
        .iter()
        .flat_map(|health| {
            // Which revision a pod is of is told by the cluster, in words of its own.
            each(&health.endpoint).into_iter().map(|endpoint| HealthEndpoint {
                endpoint,
                expect: health.expect.clone(),
                revision: None,
            })
        })
        .collect();
    Addresses { pages, probes }
}

/// Loopback in the family of an address; one that is loopback stays.
fn loopback(ip: IpAddr) -> IpAddr {
    match ip {
        _ if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

fn endpoint(pod: &Pod, ip: IpAddr, offered: &PodEndpoint) -> Option<Endpoint> {
    let port = match &offered.port {
        PodPort::Number(number) => *number,
        PodPort::Name(name) => pod.ports.iter().find(|(known, _)| known == name)?.1,
    };
    let host = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let url = Url::parse(&format!("{}://{host}:{port}{}", offered.scheme, offered.path)).ok()?;
    Some(Endpoint { instance: Some(InstanceId::new(&pod.name)), url, http: offered.http.clone() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_pod_is_looked_at_under_its_own_address() {
        let pod = |name: &str, ip: &str| Pod {
            uid: name.to_owned(),
            name: name.to_owned(),
            owner: "rs".to_owned(),
            hash: "h1".to_owned(),
            ip: ip.parse().ok(),
            is_ready: true,
            is_ending: false,
            is_begun: true,
            created: None,
            ends_by: None,
            containers: Vec::new(),
            ports: vec![("http".to_owned(), 8080)],
        };
        let at = |port: PodPort, path: &str| PodEndpoint {
            port,
            scheme: "http".to_owned(),
            path: path.to_owned(),
            http: Arc::default(),
        };
        let health = PodHealth {
            endpoint: at(PodPort::Number(81), "/health"),
            expect: BTreeMap::new(),
            revision: Some(crate::config::model::RevisionFrom::Header("X-Version".to_owned())),
        };
        let offer = Offer { scrape: Some(at(PodPort::Name("http".to_owned()), "/metrics")), health: Some(health) };
        let pods = [pod("a", "10.42.0.7"), pod("b", "fd00::7"), pod("c", "")];
        let told = |own: Option<&str>| -> Vec<String> {
            let found = addresses(pods.iter(), &offer, own);
            assert!(found.probes.iter().all(|health| health.revision.is_none()));
            let probed = found.probes.iter().map(|health| &health.endpoint);
            let all = found.pages.iter().chain(probed);
            all.map(|endpoint| format!("{} {}", endpoint.instance.as_ref().unwrap(), endpoint.url)).collect()
        };
        assert_eq!(told(Some("b"))[..2], ["a http://10.42.0.7:8080/metrics", "b http://[::1]:8080/metrics"]);
        assert_eq!(told(Some("a"))[2..], ["a http://127.0.0.1:81/health", "b http://[fd00::7]:81/health"]);
        assert_eq!(
            told(None),
            [
                "a http://10.42.0.7:8080/metrics",
                "b http://[fd00::7]:8080/metrics",
                "a http://10.42.0.7:81/health",
                "b http://[fd00::7]:81/health"
            ]
        );
    }
}
