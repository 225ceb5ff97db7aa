//! Which release each instance of a recording served, and when: by a label, by a schedule, or by the names of pods.

use serde::{Deserialize, Serialize};

use super::exporters::Tells;
use super::part::Part;
use crate::domain::id::RevisionId;
use crate::domain::time::Timestamp;

/// What is known of a recording's rollouts besides its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Releases by the time at which their rollout began.
    pub rollouts: Vec<(Timestamp, RevisionId)>,
    /// The release before the first rollout.
    pub before: Option<RevisionId>,
}

/// What a release is called that no one names.
const BEFORE: &str = "before";
const AFTER: &str = "after";

/// A time as recordings' companions write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(f64),
    Text(String),
}

/// `meta.json` beside a recording; keys that are not known are left alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Meta {
    deploy_at: Option<Moment>,
    old_version: Option<serde_json::Value>,
    new_version: Option<serde_json::Value>,
}

impl Schedule {
    /// From `meta.json`: `deploy_at` (seconds or milliseconds since the Unix epoch, as a number or a text, or RFC 3339),
    /// `old_version` and `new_version`, each of them optional.
    ///
    /// # Errors
    /// The text is not JSON, or `deploy_at` is no time.
    pub fn from_meta(text: &str) -> Result<Self, String> {
        let meta: Meta = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let name = |value: Option<serde_json::Value>| match value? {
            serde_json::Value::String(text) if !text.is_empty() => Some(RevisionId::new(text)),
            serde_json::Value::Number(number) => Some(RevisionId::new(number.to_string())),
            _ => None,
        };
        let (before, new) = (name(meta.old_version), name(meta.new_version));
        let Some(moment) = meta.deploy_at else { return Ok(Self { rollouts: Vec::new(), before }) };
        let at = match moment {
            Moment::Seconds(seconds) => from_seconds(seconds),
            Moment::Text(text) => moment_from(&text),
        };
        let at = at.ok_or("`deploy_at` is neither seconds since the Unix epoch nor a time as RFC 3339 writes it")?;
        Ok(Self { rollouts: vec![(at, new.unwrap_or_else(|| AFTER.into()))], before })
    }

    /// From `TIME=REVISION`, the time as [`moment_from`] reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        let (time, revision) = text.split_once('=').ok_or("write it as TIME=REVISION")?;
        let at =
            moment_from(time).ok_or_else(|| format!("{time:?} is no time: write 2026-01-31T12:00:00Z or seconds"))?;
        if revision.is_empty() {
            return Err("the revision is empty".to_owned());
        }
        self.rollouts.push((at, revision.into()));
        self.rollouts.sort();
        Ok(())
    }

    /// The release before the first rollout.
    pub(super) fn first(&self) -> RevisionId {
        self.before.clone().unwrap_or_else(|| BEFORE.into())
    }
}

/// A time as RFC 3339 writes it, or seconds since the Unix epoch; milliseconds where they are too many for seconds.
#[must_use]
pub fn moment_from(text: &str) -> Option<Timestamp> {
    match text.trim().parse::<f64>() {
        Ok(seconds) => from_seconds(seconds),
        Err(_) => {
            let at: jiff::Timestamp = text.trim().parse().ok()?;
            Some(Timestamp::from_millis(at.as_millisecond()))
        }
    }
}

/// From here on a number of seconds lies beyond the year 5138: it counts milliseconds.
const MILLISECONDS: f64 = 1e11;

fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let millis = if seconds.abs() < MILLISECONDS { seconds * 1000.0 } else { seconds };
    (millis.abs() < MILLISECONDS * 1000.0).then(|| Timestamp::from_millis(millis.round() as i64))
}

/// Letters and digits of which Kubernetes makes generated names.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The pod template's hash in the name of a Deployment's pod, `NAME-HASH-SUFFIX`.
pub(super) fn template_hash(pod: &str) -> Option<&str> {
    let (rest, suffix) = pod.rsplit_once('-')?;
    let (name, hash) = rest.rsplit_once('-')?;
    let generated = |text: &str| text.bytes().all(|byte| GENERATED.contains(&byte));
    let fits = !name.is_empty() && suffix.len() == 5 && (6..=10).contains(&hash.len());
    (fits && generated(suffix) && generated(hash)).then_some(hash)
}

/// What a generated pod's name begins with: its name without the last part, and without the template's hash before it
/// where there is one.
pub(super) fn owner(pod: &str) -> Option<&str> {
    let (rest, _) = pod.rsplit_once('-')?;
    match (template_hash(pod), rest.rsplit_once('-')) {
        (Some(_), Some((name, _))) => Some(name),
        (Some(_) | None, _) => Some(rest),
    }
}

/// Longest time that a rollout takes to start all processes anew.
const ROLLOUT: i64 = 600_000;

/// Rollouts where every place that was there got a new process within ten minutes, and each only one: several are a crash
/// loop, and a new process in one place of many is a restart.
pub(super) fn by_starts(parts: &[Part<'_>]) -> Vec<(Timestamp, RevisionId)> {
    let places: Vec<&[(i64, f64)]> = parts
        .iter()
        .filter(|part| part.tells == Some(Tells::ProcessStart))
        .map(|part| part.info.steps.as_slice())
        .collect();
    let mut all: Vec<i64> = places.iter().flat_map(|steps| steps.iter().skip(1)).map(|(at, _)| *at).collect();
    all.sort_unstable();
    let mut rollouts = Vec::new();
    let mut after = i64::MIN;
    for begin in all {
        let once = |steps: &&[(i64, f64)]| {
            steps.iter().skip(1).filter(|(at, _)| (begin..begin + ROLLOUT).contains(at)).count() == 1
        };
        if begin >= after && places.iter().all(once) {
            let at = Timestamp::from_millis(begin);
            rollouts.push((at, RevisionId::new(format!("started-{at}"))));
            after = begin + ROLLOUT;
        }
    }
    rollouts
}

/// How near two changes of a Deployment are one.
const ONE_CHANGE: i64 = 60_000;

/// Rollouts where a Deployment's specification was changed, and not the number of its replicas alone.
pub(super) fn by_generations(parts: &[Part<'_>]) -> Vec<(Timestamp, RevisionId)> {
    let steps = |tells: Tells| {
        parts.iter().filter(move |part| part.tells == Some(tells)).flat_map(|part| part.info.steps.iter().skip(1))
    };
    let is_scaled = |at: i64| steps(Tells::Wanted).any(|(scaled, _)| (scaled - at).abs() <= ONE_CHANGE);
    let mut rollouts: Vec<(Timestamp, RevisionId)> = steps(Tells::Generation)
        .filter(|(at, _)| !is_scaled(*at))
        .map(|(at, generation)| (Timestamp::from_millis(*at), RevisionId::new(format!("generation-{generation}"))))
        .collect();
    rollouts.sort();
    rollouts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recordings_companion_is_read_in_every_spelling() {
        let at = Timestamp::from_millis(1_764_300_720_500);
        for text in [
            r#"{"deploy_at": 1764300720.5, "old_version": "v1", "new_version": "v2", "other": [1]}"#,
            r#"{"deploy_at": "1764300720.5", "old_version": "v1", "new_version": "v2"}"#,
            r#"{"deploy_at": 1764300720500, "old_version": "v1", "new_version": "v2"}"#,
            r#"{"deploy_at": "2025-11-28T03:32:00.5Z", "old_version": "v1", "new_version": "v2"}"#,
            r#"{"deploy_at": "2025-11-28T04:32:00.5+01:00", "old_version": "v1", "new_version": "v2"}"#,
        ] {
            let schedule = Schedule::from_meta(text).unwrap();
            assert_eq!(schedule.rollouts, [(at, "v2".into())], "{text}");
            assert_eq!(schedule.before, Some("v1".into()));
        }
        let numbers = Schedule::from_meta(r#"{"deploy_at": 0, "new_version": 7, "old_version": null}"#).unwrap();
        assert_eq!(numbers, Schedule { rollouts: vec![(Timestamp::from_millis(0), "7".into())], before: None });
        assert_eq!(Schedule::from_meta("{}").unwrap(), Schedule::default());
        assert!(Schedule::from_meta(r#"{"deploy_at": "soon"}"#).is_err());
        assert!(Schedule::from_meta("[").is_err());
    }

    #[test]
    fn rollouts_of_the_command_line_are_put_in_order() {
        let mut schedule = Schedule::default();
        schedule.add("2025-11-28T03:32:00Z=v3").unwrap();
        schedule.add("1764300000=v2=x").unwrap();
        let names: Vec<&str> = schedule.rollouts.iter().map(|(_, revision)| revision.as_str()).collect();
        assert_eq!(names, ["v2=x", "v3"]);
        for wrong in ["v2", "now=v2", "0="] {
            assert!(schedule.add(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pods_of_one_owner_have_one_beginning() {
        for (pod, expected) in [
            ("api-7d9c5bcb6d-x2v4k", Some("api")),
            ("db-0", Some("db")),
            ("web-x2v4k", Some("web")),
            ("10.0.0.1:80", None),
        ] {
            assert_eq!(owner(pod), expected, "{pod}");
        }
    }

    #[test]
    fn a_deployments_pods_name_their_template() {
        for (pod, hash) in [
            ("api-7d9c5bcb6d-x2v4k", Some("7d9c5bcb6d")),
            ("hotswap-api-6f8b9c7d5f-2bqzx", Some("6f8b9c7d5f")),
            ("api-0", None),
            ("api-7d9c5bcb6d-aeiou", None),
            ("10.0.0.1:8080", None),
        ] {
            // Vowels, 0, 1 and 3 are never generated.
            let expected = hash.filter(|hash| hash.bytes().all(|byte| GENERATED.contains(&byte)));
            assert_eq!(template_hash(pod), expected, "{pod}");
        }
    }
}
