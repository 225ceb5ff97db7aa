//! Targets from a file in Prometheus' `file_sd` JSON format, read anew when it changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use reqwest::Url;
use serde::Deserialize;

use super::addresses::Addresses;
use super::change::Outlook;
use super::crew::List;
use super::duty::{Due, Duty};
use super::releases::DISK_PATIENCE;
use crate::config::model::{Endpoint, FileTargets};
use crate::domain::id::InstanceId;
use crate::domain::observation::{Fault, FaultKind, Seen};
use crate::host::disk::Disk;

/// Largest file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Most addresses that a file may name.
const MAX_TARGETS: usize = 10_000;

/// One entry of the file.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What tells one version of the file from the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

/// Keeps a workload's looks in step with a file.
#[derive(Debug)]
pub(super) struct Files {
    source: FileTargets,
    /// The workload's instances: a target labelled `instance` with one of these names belongs to it.
    instances: Vec<InstanceId>,
    list: List,
    outlook: Outlook,
    disk: Disk,
    read: Option<Stamp>,
}

impl Files {
    pub(super) fn new(source: FileTargets, instances: Vec<InstanceId>, list: List, outlook: Outlook) -> Self {
        Self { source, instances, list, outlook, disk: Disk::default(), read: None }
    }
}

impl Duty for Files {
    async fn look(&mut self, _due: Due) -> Vec<Seen> {
        let (source, instances, known) = (self.source.clone(), self.instances.clone(), self.read);
        let read = self.disk.ask(DISK_PATIENCE, move || anew(&source, &instances, known)).await;
        match read.unwrap_or_else(|why| Err(local(&self.source.path, &why.to_string()))) {
            Ok(None) => {}
            Ok(Some((stamp, result))) => {
                // A version that was refused is not read again either.
                self.read = Some(stamp);
                self.outlook.note(result.as_ref().err());
                if let Ok(pages) = result {
                    self.list.set(Addresses { pages, probes: Vec::new() });
                }
            }
            Err(fault) => {
                self.read = None;
                self.outlook.note(Some(&fault));
            }
        }
        Vec::new()
    }
}

/// A version of the file, and what it says.
type Version = (Stamp, Result<Vec<Endpoint>, Fault>);

/// The version that is there, where it is another than the one that is known.
fn anew(source: &FileTargets, instances: &[InstanceId], known: Option<Stamp>) -> Result<Option<Version>, Fault> {
    let stamp = stamp(&source.path)?;
    Ok((known != Some(stamp)).then(|| (stamp, endpoints(source, instances))))
}

fn stamp(path: &Path) -> Result<Stamp, Fault> {
    let meta = std::fs::metadata(path).map_err(|error| local(path, &error.to_string()))?;
    if !meta.is_file() {
        return Err(local(path, "not a regular file"));
    }
    Ok(Stamp { modified: (meta.mtime(), meta.mtime_nsec()), inode: meta.ino(), length: meta.len() })
}

/// The addresses that the file names now.
fn endpoints(source: &FileTargets, instances: &[InstanceId]) -> Result<Vec<Endpoint>, Fault> {
    let path = &source.path;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text))
        .map_err(|error| local(path, &error.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Fault { kind: FaultKind::TooLarge, detail: format!("{}: over {MAX_FILE} bytes", path.display()) });
    }
    parse(&text, source, instances)
}

fn parse(text: &[u8], source: &FileTargets, instances: &[InstanceId]) -> Result<Vec<Endpoint>, Fault> {
    let malformed =
        |problem: String| Fault { kind: FaultKind::Malformed, detail: format!("{}: {problem}", source.path.display()) };
    let groups: Vec<Group> = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
    let mut found = Vec::new();
    for group in &groups {
        for target in &group.targets {
            if found.len() == MAX_TARGETS {
                return Err(malformed(format!("more than {MAX_TARGETS} targets")));
            }
            let url = url(target, group, source).ok_or_else(|| malformed(format!("{target:?} is not an address")))?;
            let named = group.labels.get("instance");
            let instance = instances.iter().find(|known| named.is_some_and(|name| name == known.as_str())).cloned();
            found.push(Endpoint { instance, url, http: source.http.clone() });
        }
    }
    Ok(found)
}

/// `host:port`, with scheme and path from the labels that Prometheus takes them from, or from the policy.
fn url(target: &str, group: &Group, source: &FileTargets) -> Option<Url> {
    if target.is_empty() || target.contains(|c: char| matches!(c, '/' | '@' | '?' | '#' | '\\') || c.is_whitespace()) {
        return None;
    }
    let scheme = group.labels.get("__scheme__").unwrap_or(&source.scheme);
    let page = group.labels.get("__metrics_path__").unwrap_or(&source.page);
    let slash = if page.starts_with('/') { "" } else { "/" };
    let url = Url::parse(&format!("{scheme}://{target}{slash}{page}")).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(url)
}

fn local(path: &Path, problem: &str) -> Fault {
    Fault { kind: FaultKind::Local, detail: format!("{}: {problem}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let source = FileTargets {
            path: "/etc/targets.json".into(),
            scheme: "http".to_owned(),
            page: "/metrics".to_owned(),
            http: Arc::default(),
        };
        let found = parse(text.as_bytes(), &source, &[InstanceId::new("a")]).map_err(|fault| fault.to_string())?;
        Ok(found.iter().map(|e| format!("{} {}", e.url, e.instance.as_ref().map_or("-", |i| i.as_str()))).collect())
    }

    #[test]
    fn targets_are_read_as_prometheus_reads_them() {
        let text = r#"[
            {"targets": ["10.0.0.1:9100", "shop.example"], "labels": {"env": "prod"}},
            {"targets": ["[::1]:9100"], "labels": {"__scheme__": "https", "__metrics_path__": "stats"}},
            {"targets": ["b:1"], "labels": {"instance": "a"}},
            {"targets": ["c:1"], "labels": {"instance": "elsewhere"}},
            {"targets": []}
        ]"#;
        assert_eq!(
            parsed(text).unwrap(),
            [
                "http://10.0.0.1:9100/metrics -",
                "http://shop.example/metrics -",
                "https://[::1]:9100/stats -",
                "http://b:1/metrics a",
                "http://c:1/metrics -",
            ]
        );
    }

    #[test]
    fn what_is_no_list_of_addresses_is_refused_whole() {
        for (text, problem) in [
            ("", "malformed: /etc/targets.json: EOF while parsing a value at line 1 column 0"),
            ("{}", "malformed: /etc/targets.json: invalid type: map, expected a sequence at line 1 column 0"),
            (r#"[{"labels": {}}]"#, "malformed: /etc/targets.json: missing field `targets` at line 1 column 15"),
            (
                r#"[{"targets": ["a:1", "user@host:1"]}]"#,
                r#"malformed: /etc/targets.json: "user@host:1" is not an address"#,
            ),
            (r#"[{"targets": ["a:1/path"]}]"#, r#"malformed: /etc/targets.json: "a:1/path" is not an address"#),
            (r#"[{"targets": ["a:99999"]}]"#, r#"malformed: /etc/targets.json: "a:99999" is not an address"#),
            (
                r#"[{"targets": ["a:1"], "labels": {"__scheme__": "file"}}]"#,
                r#"malformed: /etc/targets.json: "a:1" is not an address"#,
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), problem, "{text}");
        }
        let many = format!(r#"[{{"targets": [{}"z:1"]}}]"#, "\"a:1\",".repeat(MAX_TARGETS));
        assert_eq!(parsed(&many).unwrap_err(), "malformed: /etc/targets.json: more than 10000 targets");
    }
}
