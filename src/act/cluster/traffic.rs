//! Where the traffic of a Service arrives: by its endpoints, and by answers through it.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::answers::{Asker, Heard};
use super::service::{Front, ReadService};
use crate::cluster::facts::Pod;
use crate::domain::id::RevisionId;
use crate::domain::policy::{Ask, ClusterObject, Switch, listed};
use crate::domain::response::plan::Outcome;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(500);

/// What is to be found out.
#[derive(Clone, Copy, Debug)]
pub(in crate::act) struct Proof<'a> {
    pub(in crate::act) object: &'a ClusterObject,
    pub(in crate::act) release: &'a RevisionId,
    pub(in crate::act) switch: &'a Switch,
    pub(in crate::act) at_least: u32,
    pub(in crate::act) ask: Option<&'a Ask>,
    pub(in crate::act) answers: u32,
}

/// Looks until the traffic arrives at the release alone, or `deadline` comes. Changes nothing.
pub(super) async fn prove(client: &Client, proof: Proof<'_>, deadline: Instant) -> Outcome {
    let front = Front::new(client.clone(), proof.object, &proof.switch.service);
    loop {
        let lack = match look(&front, proof).await {
            Ok(None) => return Outcome::Applied,
            Ok(Some(lack)) => lack,
            Err(Outcome::Transient(why)) => why,
            Err(outcome) => return outcome,
        };
        if Instant::now() + POLL >= deadline {
            return Outcome::TimedOut(lack);
        }
        sleep(POLL).await;
    }
}

/// Why it does not arrive there yet.
async fn look(front: &Front<'_>, proof: Proof<'_>) -> Result<Option<String>, Outcome> {
    let read = front.read().await?;
    if read.selector != proof.switch.after {
        let selects = listed(&read.selector);
        return Err(Outcome::Conflict(format!("{} selects {selects}: somebody else switched it", front.name())));
    }
    let owner = front.owner_of(proof.release).await?;
    let mut ours = front.ready(&proof.switch.after).await?;
    ours.retain(|pod| pod.owner == owner);
    let slices = front.slices().await?;
    if let Some(lack) = endpoints_lack(&slices, &ours, proof) {
        return Ok(Some(format!("{} {lack}", front.name())));
    }
    let Some(ask) = proof.ask else { return Ok(None) };
    let others = front.ready(&proof.switch.before).await?;
    let address = ask.url.clone().or_else(|| own_address(&read, &slices, &ours, ask));
    let Some(address) = address else { return Ok(None) };
    match Asker::new(ask, &ours, &others).hear(&address, proof.answers).await {
        Heard::Release => Ok(None),
        Heard::NotYet(why) => Ok(Some(format!("asked through {}: {why}", front.name()))),
        // Not every daemon stands where the addresses of Services lead anywhere; the endpoints have been looked at.
        Heard::NoWay(why) if ask.url.is_none() => {
            tracing::warn!(service = front.name(), why, "its address can't be reached from here");
            Ok(None)
        }
        Heard::NoWay(why) => Ok(Some(format!("{address}: {why}"))),
    }
}

/// What is wrong with the endpoints: they lead to something else, or to too little.
fn endpoints_lack(slices: &[Value], ours: &[Pod], proof: Proof<'_>) -> Option<String> {
    let led_to: BTreeSet<&str> = slices.iter().flat_map(ready_endpoints).collect();
    let is_ours = |name: &&str| ours.iter().any(|pod| pod.name == *name);
    if let Some(other) = led_to.iter().find(|name| !is_ours(name)) {
        return Some(format!("still leads to {other}, which is not of {}", proof.release));
    }
    let enough = u32::try_from(led_to.len()).is_ok_and(|count| count >= proof.at_least.max(1));
    (!enough).then(|| format!("leads to {} pods of {}, {} are needed", led_to.len(), proof.release, proof.at_least))
}

/// The names of what a slice leads to. What has no name is no pod of anybody's.
fn ready_endpoints(slice: &Value) -> impl Iterator<Item = &str> {
    let endpoints = slice.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    // As the API says: where nothing is said, it is ready.
    let ready = endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    ready.map(|endpoint| endpoint.pointer("/targetRef/name").and_then(Value::as_str).unwrap_or("an address of no pod"))
}

/// The Service's own address, at the port that leads to the pods' page.
fn own_address(read: &ReadService, slices: &[Value], ours: &[Pod], ask: &Ask) -> Option<String> {
    let page = ask.page.as_ref()?;
    let host = read.address.as_ref()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let wanted = ours.first().and_then(|pod| pod.port(&page.port));
    let ports = slices.iter().filter_map(|slice| slice.get("ports")?.as_array()).flatten();
    let mut leading = ports.filter(|port| port.get("port").and_then(Value::as_u64) == wanted.map(u64::from));
    let name_of = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = leading.next().map(name_of);
    let port = read.ports.iter().find(|port| name.as_ref() == Some(&name_of(port))).or_else(|| read.ports.first())?;
    Some(format!("{}://{host}:{}{}", page.scheme, port.get("port")?.as_u64()?, page.path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::policy::{AskedPage, ObjectKind, Pin};

    fn pod(name: &str) -> Pod {
        Pod {
            uid: name.to_owned(),
            name: name.to_owned(),
            owner: "rs".to_owned(),
            hash: "v1".to_owned(),
            ip: None,
            is_ready: true,
            is_ending: false,
            is_begun: true,
            created: None,
            ends_by: None,
            containers: Vec::new(),
            ports: vec![("web".to_owned(), 8080)],
        }
    }

    fn lack(endpoints: Value) -> Option<String> {
        let pin = Pin { name: "front".to_owned(), uid: "s1".to_owned() };
        let object = ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: "blue".to_owned(),
            uid: "d1".to_owned(),
        };
        let switch = Switch { service: pin, before: [].into(), after: [].into() };
        let release = RevisionId::new("v1");
        let proof = Proof { object: &object, release: &release, switch: &switch, at_least: 2, ask: None, answers: 10 };
        endpoints_lack(&[json!({ "endpoints": endpoints })], &[pod("a"), pod("b")], proof)
    }

    fn endpoint(name: &str, ready: Option<bool>) -> Value {
        json!({ "conditions": { "ready": ready }, "targetRef": { "kind": "Pod", "name": name } })
    }

    #[test]
    fn the_endpoints_are_those_of_the_release_and_enough() {
        let both = [endpoint("a", Some(true)), endpoint("b", None)];
        assert_eq!(lack(json!(both)), None);
        let going = [endpoint("a", None), endpoint("b", None), endpoint("green-1", Some(false))];
        assert_eq!(lack(json!(going)), None, "what is not ready gets nothing");
        let mixed = [endpoint("a", None), endpoint("b", None), endpoint("green-1", Some(true))];
        assert_eq!(lack(json!(mixed)).unwrap(), "still leads to green-1, which is not of v1");
        let nameless = json!([endpoint("a", None), { "conditions": {} }]);
        assert!(lack(nameless).unwrap().contains("an address of no pod"));
        let few = [endpoint("a", None), endpoint("b", Some(false))];
        assert_eq!(lack(json!(few)).unwrap(), "leads to 1 pods of v1, 2 are needed");
        assert!(lack(Value::Null).is_some());
    }

    #[test]
    fn a_service_is_asked_at_the_port_that_leads_to_the_page() {
        let port = |name: &str, port: u16| json!({ "name": name, "port": port });
        let read = |address: Option<&str>| ReadService {
            version: String::new(),
            selector: [].into(),
            address: address.map(str::to_owned),
            managers: Vec::new(),
            ports: vec![port("grpc", 90), port("http", 80)],
        };
        let slices = [json!({ "ports": [port("grpc", 9090), port("http", 8080)] })];
        let page = |port: &str| {
            let page = AskedPage { scheme: "http".to_owned(), port: port.to_owned(), path: "/health".to_owned() };
            Ask { url: None, page: Some(page), sign: None }
        };
        let address = |read: &ReadService, port| own_address(read, &slices, &[pod("a")], &page(port));
        let known = read(Some("10.43.0.7"));
        assert_eq!(address(&known, "web").unwrap(), "http://10.43.0.7:80/health");
        assert_eq!(address(&known, "8080").unwrap(), "http://10.43.0.7:80/health");
        assert_eq!(address(&known, "9090").unwrap(), "http://10.43.0.7:90/health");
        assert_eq!(address(&read(Some("fd00::7")), "web").unwrap(), "http://[fd00::7]:80/health");
        assert_eq!(address(&read(None), "web"), None, "a headless one has no address");
    }
}
