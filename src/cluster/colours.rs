//! Two Deployments behind one Service as one picture: the one that the Service leads to is in service, the other waits.

use std::collections::BTreeMap;

use crate::domain::observation::{Idle, ReleaseView, Rollout};
use crate::domain::policy::{Owner, Pin, Release, Switch, listed};

use super::facts::{Service, selects};

/// One colour.
#[derive(Clone, Debug)]
pub struct Colour {
    /// Its own picture.
    pub view: ReleaseView,
    /// The labels of its pods.
    pub labels: BTreeMap<String, String>,
}

/// The picture of both, where `key` is the label in the selector that tells them apart.
///
/// # Errors
/// Why the Service does not say which of them serves, or could not be switched: then nothing may be done.
pub fn with_colours(service: &Service, key: &str, first: Colour, second: Colour) -> Result<ReleaseView, String> {
    let (serving, waiting) = match (service.selects(&first.labels), service.selects(&second.labels)) {
        (true, false) => (first, second),
        (false, true) => (second, first),
        (true, true) => return Err(format!("the Service {} selects the pods of both colours", told(service))),
        (false, false) => return Err(format!("the Service {} selects the pods of neither colour", told(service))),
    };
    let after = switched(service, key, &waiting.labels);
    let after = after.filter(|after| selects(after, &waiting.labels) && !selects(after, &serving.labels));
    let after = after.ok_or_else(|| {
        format!("the Service {} can't be switched to the other colour by the label {key}", told(service))
    })?;
    let switch = Switch {
        service: Pin { name: service.name.clone(), uid: service.uid.clone() },
        before: service.selector.clone(),
        after,
    };
    joined(serving.view, waiting.view, switch, service.owners.clone())
        .ok_or_else(|| "a colour has no object".to_owned())
}

fn switched(service: &Service, key: &str, labels: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let mut selector = service.selector.clone();
    *selector.get_mut(key)? = labels.get(key)?.clone();
    Some(selector)
}

fn told(service: &Service) -> String {
    match service.selector.is_empty() {
        true => format!("{} (without a selector)", service.name),
        false => format!("{} ({})", service.name, listed(&service.selector)),
    }
}

/// What waits can be gone to as it is now: a release that it had before is not behind a switch.
fn joined(
    serving: ReleaseView,
    waiting: ReleaseView,
    switch: Switch,
    of_the_service: Vec<Owner>,
) -> Option<ReleaseView> {
    let (mut whole, beside) = (serving.orchestrated?, waiting.orchestrated?);
    let ready: Vec<Release> =
        waiting.available.into_iter().filter(|release| release.revision == beside.desired).collect();
    whole.add_owners(beside.owners);
    whole.add_owners(of_the_service);
    whole.serving.extend(beside.serving);
    whole.unplaced.extend(beside.unplaced);
    whole.created.extend(beside.created);
    whole.settings.named.extend(beside.settings.named);
    whole.idle = Some(Idle {
        object: beside.object,
        release: beside.desired,
        replicas: beside.replicas,
        stalled: match beside.rollout {
            Rollout::Stalled { why } => Some(why),
            Rollout::Complete | Rollout::UnderWay { .. } => None,
        },
        instances: waiting.instances.iter().map(|(instance, _)| instance.clone()).collect(),
        switch,
    });
    Some(ReleaseView {
        instances: serving.instances.into_iter().chain(waiting.instances).collect(),
        available: serving.available.into_iter().chain(ready).collect(),
        orchestrated: Some(whole),
        ..ReleaseView::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{InstanceId, RevisionId};
    use crate::domain::observation::Orchestrated;
    use crate::domain::policy::{ClusterObject, ObjectKind};
    use crate::domain::testing;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
    }

    fn service(selector: &[(&str, &str)]) -> Service {
        Service { uid: "s1".to_owned(), name: "front".to_owned(), selector: labels(selector), owners: Vec::new() }
    }

    fn colour(name: &str, release: &str) -> Colour {
        let object = ClusterObject {
            context: None,
            namespace: "prod".to_owned(),
            kind: ObjectKind::Deployment,
            name: name.to_owned(),
            uid: format!("uid-{name}"),
        };
        let pod = InstanceId::new(format!("{name}-1"));
        let orchestrated = Orchestrated { object, serving: vec![pod.clone()], ..testing::orchestrated(release, 1) };
        let known = |name: &str| Release { revision: RevisionId::new(name), image: None };
        let view = ReleaseView {
            instances: vec![(pod, RevisionId::new(release))],
            available: vec![known(release), known(&format!("{release}-before"))],
            orchestrated: Some(Box::new(orchestrated)),
            ..ReleaseView::default()
        };
        Colour { view, labels: labels(&[("app", "shop"), ("version", name), ("pod", "x")]) }
    }

    fn joined(selector: &[(&str, &str)]) -> Result<ReleaseView, String> {
        with_colours(&service(selector), "version", colour("blue", "v1"), colour("green", "v2"))
    }

    #[test]
    fn the_colour_that_the_service_leads_to_is_in_service_and_the_other_waits() {
        let view = joined(&[("app", "shop"), ("version", "green")]).unwrap();
        let releases: Vec<_> = view.available.iter().map(|release| release.revision.as_str()).collect();
        assert_eq!(releases, ["v2", "v2-before", "v1"], "what waits can be gone to as it is");
        let whole = view.orchestrated.unwrap();
        assert_eq!([whole.object.name.as_str(), whole.desired.as_str()], ["green", "v2"]);
        let idle = whole.idle.unwrap();
        assert_eq!([idle.object.name.as_str(), idle.release.as_str()], ["blue", "v1"]);
        assert_eq!(idle.instances, [InstanceId::new("blue-1")].into());
        assert_eq!(idle.switch.before, labels(&[("app", "shop"), ("version", "green")]));
        assert_eq!(idle.switch.after, labels(&[("app", "shop"), ("version", "blue")]));
        let back = joined(&[("version", "blue")]).unwrap().orchestrated.unwrap();
        assert_eq!(back.desired.as_str(), "v1");
        assert_eq!(back.idle.unwrap().switch.after, labels(&[("version", "green")]));
    }

    #[test]
    fn a_service_that_leads_to_both_or_neither_says_nothing() {
        let refused = |selector: &[(&str, &str)]| joined(selector).unwrap_err();
        assert!(refused(&[]).ends_with("front (without a selector) selects the pods of neither colour"));
        assert!(refused(&[("app", "shop")]).ends_with("front (app=shop) selects the pods of both colours"));
        assert!(refused(&[("version", "red")]).ends_with("selects the pods of neither colour"));
        let by_another =
            with_colours(&service(&[("version", "green")]), "app", colour("blue", "v1"), colour("green", "v2"));
        assert!(by_another.unwrap_err().ends_with("can't be switched to the other colour by the label app"));
    }
}
