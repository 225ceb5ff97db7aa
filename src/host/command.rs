//! The operator's commands as questions: which release is current, and which there are.

use std::time::Duration;

use super::process::{self, End, Invocation, Leftovers};
use super::text;
use crate::domain::id::{InstanceId, RevisionId, WorkloadId};
use crate::domain::observation::{Fault, FaultKind};
use crate::domain::policy::Release;

/// Most of a failed command's complaint that goes into a message, in bytes.
pub const MAX_DETAIL: usize = 512;
/// Most releases that a command may list.
const MAX_RELEASES: usize = 10_000;

/// What a command is told about whom it is run for, as environment variables.
#[must_use]
pub fn variables(
    workload: &WorkloadId,
    release: Option<&RevisionId>,
    instance: Option<&InstanceId>,
) -> Vec<(&'static str, String)> {
    let mut variables = vec![("ROLLBACKD_WORKLOAD", workload.to_string())];
    variables.extend(release.map(|release| ("ROLLBACKD_RELEASE", release.to_string())));
    variables.extend(instance.map(|instance| ("ROLLBACKD_INSTANCE", instance.to_string())));
    variables
}

/// The release that the operator's command prints on its first line. `argv` is complete.
///
/// # Errors
///
/// Where it can't be run, fails, takes longer than `limit`, or prints something that can't be a release's name.
pub async fn current(
    workload: &WorkloadId,
    argv: &[String],
    instance: Option<&InstanceId>,
    limit: Duration,
) -> Result<RevisionId, Fault> {
    let answer = answer(workload, argv, instance, limit).await?;
    let line = answer.lines().next().unwrap_or_default().trim();
    text::release_name(line).map_err(|problem| malformed(argv, &problem))
}

/// The releases that the operator's command prints, one a line, in its order: newest first. Blank lines are skipped, and
/// what follows the first white space of a line says what the release is made of.
///
/// # Errors
///
/// As [`current`], and where there are more than 10,000 or more output than is kept.
pub async fn releases(workload: &WorkloadId, argv: &[String], limit: Duration) -> Result<Vec<Release>, Fault> {
    let answer = answer(workload, argv, None, limit).await?;
    let mut found = Vec::new();
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if found.len() == MAX_RELEASES {
            return Err(too_large(argv, "lists more than 10,000 releases"));
        }
        let (name, image) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let image = Some(image.trim()).filter(|image| !image.is_empty());
        found.push(Release {
            revision: text::release_name(name).map_err(|problem| malformed(argv, &problem))?,
            image: image.map(str::to_owned),
        });
    }
    Ok(found)
}

async fn answer(
    workload: &WorkloadId,
    argv: &[String],
    instance: Option<&InstanceId>,
    limit: Duration,
) -> Result<String, Fault> {
    let reply = process::ask(&Invocation {
        argv,
        variables: variables(workload, None, instance),
        directory: None,
        limit,
        leftovers: Leftovers::Killed,
    })
    .await
    .map_err(|error| local(error.line()))?;
    match reply.end {
        End::Exited(0) if reply.cut => Err(too_large(argv, "prints more than 56 KiB")),
        End::Exited(0) => String::from_utf8(reply.answer).map_err(|_| malformed(argv, "prints what is not UTF-8")),
        End::Exited(_) | End::Signalled(_) | End::TimedOut => {
            Err(local(format!("{}: {}", shown(argv), reply.summary(MAX_DETAIL))))
        }
    }
}

/// A command as it is named in messages.
#[must_use]
pub fn shown(argv: &[String]) -> String {
    text::one_line(&text::printable(argv.join(" ").as_bytes()))
}

fn malformed(argv: &[String], problem: &str) -> Fault {
    Fault { kind: FaultKind::Malformed, detail: format!("{}: {problem}", shown(argv)) }
}

fn too_large(argv: &[String], problem: &str) -> Fault {
    Fault { kind: FaultKind::TooLarge, detail: format!("{} {problem}", shown(argv)) }
}

fn local(detail: String) -> Fault {
    Fault { kind: FaultKind::Local, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    fn id() -> WorkloadId {
        WorkloadId::new("api")
    }

    #[tokio::test]
    async fn the_first_line_is_the_current_release() {
        let argv = sh("echo v1 ; echo more; echo noise >&2");
        assert_eq!(current(&id(), &argv, None, LIMIT).await.unwrap().as_str(), "v1");
        let argv = sh("echo \"$ROLLBACKD_WORKLOAD-$ROLLBACKD_INSTANCE\"");
        let a = InstanceId::new("a");
        assert_eq!(current(&id(), &argv, Some(&a), LIMIT).await.unwrap().as_str(), "api-a");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_fault() {
        for (script, text) in [
            ("exit 0", "release name \"\" is empty"),
            ("echo --all", "begins with '-'"),
            ("echo lost >&2; exit 3", "exit status 3: lost"),
            ("kill -9 $$", "killed by signal 9"),
            ("echo two words", "white space"),
            ("printf 'v\\377\\n'", "not UTF-8"),
            ("printf 'v\\033[2J1\\n'", "control character"),
            ("yes | head -c 70000", "prints more than 56 KiB"),
        ] {
            let said = current(&id(), &sh(script), None, LIMIT).await.unwrap_err();
            assert!(said.detail.contains(text), "{script}: {said}");
        }
        let said = current(&id(), &["/no/such".to_owned()], None, LIMIT).await;
        assert!(said.unwrap_err().detail.contains("not an executable program"));
    }

    #[tokio::test]
    async fn releases_are_listed_in_the_commands_order() {
        let found = releases(&id(), &sh("echo v2 image:2; echo; echo v1"), LIMIT).await.unwrap();
        let names: Vec<_> = found.iter().map(|r| (r.revision.as_str(), r.image.as_deref())).collect();
        assert_eq!(names, [("v2", Some("image:2")), ("v1", None)]);
        let said = releases(&id(), &sh("seq 1 10001"), LIMIT).await.unwrap_err();
        assert!(said.detail.contains("more than 10,000"), "{said}");
        let said = releases(&id(), &sh("echo v1; echo -rf"), LIMIT).await.unwrap_err();
        assert_eq!(said.kind, FaultKind::Malformed);
    }
}
