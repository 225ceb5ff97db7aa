//! What systemd says of units, asked by its own program.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::id::WorkloadId;
use crate::domain::observation::{Fault, FaultKind};
use crate::host::command::{MAX_DETAIL, shown, variables};
use crate::host::process::{self, End, Invocation, Leftovers};
use crate::host::text::check_unit_name;

/// How long systemd may take to answer.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Units that are asked about in one run, so that the answer stays within what is kept of an output.
const UNITS_PER_RUN: usize = 64;

/// What systemd says of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct UnitState {
    /// Whether it is in service.
    pub(super) active: bool,
    /// How often systemd restarted it by itself since it was loaded.
    pub(super) restarts: Option<u64>,
    /// Its control group, from the root of the hierarchy; none while nothing runs.
    pub(super) control_group: Option<String>,
}

/// Asks about units. Each has an answer, or why there is none.
pub(super) async fn show(
    systemctl: &str,
    workload: &WorkloadId,
    units: &[&str],
) -> BTreeMap<String, Result<UnitState, Fault>> {
    let (good, bad): (Vec<&str>, Vec<&str>) = units.iter().partition(|unit| check_unit_name(unit).is_ok());
    let refused = bad.into_iter().filter_map(|unit| {
        let problem = check_unit_name(unit).err()?;
        Some((unit.to_owned(), Err(local(problem))))
    });
    let mut answers: BTreeMap<String, Result<UnitState, Fault>> = refused.collect();
    for some in good.chunks(UNITS_PER_RUN) {
        let told = ask(systemctl, workload, some).await;
        for (place, unit) in some.iter().enumerate() {
            let answer = match &told {
                Err(fault) => Err(fault.clone()),
                Ok(states) => states.get(place).cloned().ok_or_else(|| local(format!("no word about {unit}"))),
            };
            answers.insert((*unit).to_owned(), answer);
        }
    }
    answers
}

async fn ask(systemctl: &str, workload: &WorkloadId, units: &[&str]) -> Result<Vec<UnitState>, Fault> {
    let fixed = [systemctl, "show", "--property=ActiveState,NRestarts,ControlGroup,LoadState", "--"];
    let argv: Vec<String> = fixed.iter().chain(units).map(|word| (*word).to_owned()).collect();
    let reply = process::ask(&Invocation {
        argv: &argv,
        variables: variables(workload, None, None),
        directory: None,
        limit: LIMIT,
        leftovers: Leftovers::Killed,
    })
    .await
    .map_err(|error| local(error.line()))?;
    match reply.end {
        End::Exited(0) => Ok(parse(&reply.text())),
        End::Exited(_) | End::Signalled(_) | End::TimedOut => {
            Err(local(format!("{}: {}", shown(&argv[..2]), reply.summary(MAX_DETAIL))))
        }
    }
}

/// One block of properties a unit, in the order in which they were asked for.
fn parse(answer: &str) -> Vec<UnitState> {
    answer.trim().split("\n\n").filter(|block| !block.trim().is_empty()).map(state).collect()
}

fn state(block: &str) -> UnitState {
    let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    UnitState {
        // A unit that reloads serves meanwhile.
        active: matches!(value("ActiveState"), Some("active" | "reloading" | "refreshing")),
        restarts: value("NRestarts").and_then(|count| count.parse().ok()),
        control_group: value("ControlGroup").filter(|group| !group.is_empty()).map(str::to_owned),
    }
}

fn local(detail: String) -> Fault {
    Fault { kind: FaultKind::Local, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_in_the_order_of_the_question() {
        let answer = "NRestarts=3\nControlGroup=/system.slice/a.service\nLoadState=loaded\nActiveState=active\n\n\
                      NRestarts=0\nControlGroup=\nLoadState=loaded\nActiveState=activating\n\n\
                      LoadState=loaded\nActiveState=reloading\n";
        let state = |active, restarts, group: Option<&str>| UnitState {
            active,
            restarts,
            control_group: group.map(str::to_owned),
        };
        assert_eq!(
            parse(answer),
            [
                state(true, Some(3), Some("/system.slice/a.service")),
                state(false, Some(0), None),
                state(true, None, None),
            ]
        );
        assert_eq!(parse("\n"), []);
    }

    #[tokio::test]
    async fn each_unit_has_an_answer_or_the_reason_why_not() {
        let echo = "/bin/echo";
        let answers = show(echo, &WorkloadId::new("shop"), &["a.service", "b*.service"]).await;
        // echo answers with one block that has no property.
        assert!(answers["a.service"].as_ref().is_ok_and(|state| !state.active));
        assert_eq!(answers["b*.service"].as_ref().unwrap_err().detail, "\"b*.service\" is not the name of a unit");
        let answers = show("/bin/false", &WorkloadId::new("shop"), &["a.service"]).await;
        assert_eq!(answers["a.service"].as_ref().unwrap_err().to_string(), "local: /bin/false show: exit status 1");
    }
}
