//! The operator's commands as effects: compared before, settled by reading after.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::id::{InstanceId, RevisionId, WorkloadId};
use crate::domain::observation::Fault;
use crate::domain::response::plan::{CommandPurpose, Outcome};
use crate::host::command::{MAX_DETAIL, current, shown, variables};
use crate::host::process::{self, End, Invocation, Leftovers, Run};

/// Time between two questions while something is waited for.
const POLL: Duration = Duration::from_secs(1);
/// How long the effect of a command that reports success may take to show.
const SETTLE: Duration = Duration::from_secs(5);
/// Most of a step's time that is kept back for reading the current release after the command.
const MAX_RESERVE: Duration = Duration::from_secs(10);

/// A command, as the plan's step says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    pub(super) workload: &'a WorkloadId,
    pub(super) purpose: CommandPurpose,
    pub(super) instance: Option<&'a InstanceId>,
    pub(super) argv: &'a [String],
    pub(super) current: &'a [String],
    pub(super) expect: &'a RevisionId,
    pub(super) to: &'a RevisionId,
    pub(super) each: Duration,
}

/// Does the step within `limit`, and each of its programs within their own, and the grace that a hanging one is given to end.
pub(super) async fn execute(what: Command<'_>, limit: Duration) -> Outcome {
    let step = Timed { what, deadline: Instant::now() + limit, reserve: (limit / 4).min(MAX_RESERVE) };
    match what.purpose {
        CommandPurpose::Rollback => step.roll_back().await,
        CommandPurpose::AwaitStatus => step.await_status().await,
        CommandPurpose::Retire => step.retire().await,
    }
}

struct Timed<'a> {
    what: Command<'a>,
    deadline: Instant,
    reserve: Duration,
}

impl Timed<'_> {
    async fn roll_back(&self) -> Outcome {
        match self.current().await {
            Ok(now) if now == *self.what.to => return Outcome::AlreadyInEffect,
            Ok(now) if now == *self.what.expect => {}
            Ok(now) => return self.conflict(&now),
            Err(fault) => return Outcome::Transient(fault.to_string()),
        }
        match self.run(self.time_left().saturating_sub(self.reserve)).await {
            Ok(run) => self.settle(&run).await,
            Err(outcome) => outcome,
        }
    }

    /// Finds out by reading what a finished command has done, whatever it says of itself.
    async fn settle(&self, run: &Run) -> Outcome {
        let patience = (Instant::now() + SETTLE).min(self.deadline);
        loop {
            match self.current().await {
                Ok(now) if now == *self.what.to => {
                    if !run.succeeded() {
                        tracing::warn!(
                            workload = %self.what.workload,
                            command = shown(self.what.argv),
                            end = run.summary(MAX_DETAIL),
                            "the command failed, but the release is in effect"
                        );
                    }
                    return Outcome::Applied;
                }
                Ok(now) if now != *self.what.expect => return self.conflict(&now),
                Ok(_) if run.succeeded() && Instant::now() + POLL < patience => {
                    tokio::time::sleep(POLL).await;
                }
                Ok(_) => return self.without_effect(run),
                Err(fault) => {
                    return Outcome::TimedOut(format!(
                        "{}; whether it took effect is not known: {fault}",
                        self.told(run)
                    ));
                }
            }
        }
    }

    fn without_effect(&self, run: &Run) -> Outcome {
        let told = self.told(run);
        match run.end {
            End::Exited(0) => {
                Outcome::Transient(format!("{told}, but {} is still the current release", self.what.expect))
            }
            End::Exited(_) => Outcome::Denied(told),
            End::Signalled(_) => Outcome::Transient(told),
            End::TimedOut => Outcome::TimedOut(told),
        }
    }

    /// Asks until the answer is yes. Someone else's release ends the waiting.
    async fn await_status(&self) -> Outcome {
        let mut asked = 0_u32;
        loop {
            match self.current().await {
                Ok(now) if now != *self.what.to && now != *self.what.expect => {
                    return self.conflict(&now);
                }
                // The status command is the one to say; while `current` can't be read it is still asked.
                Ok(_) | Err(_) => {}
            }
            let run = match self.run(self.time_left()).await {
                Ok(run) => run,
                Err(outcome) => return outcome,
            };
            asked += 1;
            if run.succeeded() {
                return Outcome::Applied;
            }
            if Instant::now() + POLL >= self.deadline {
                return Outcome::TimedOut(format!("asked {asked} times, at last: {}", self.told(&run)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Never takes away the release that serves.
    async fn retire(&self) -> Outcome {
        match self.current().await {
            Ok(now) if now == *self.what.to => {}
            Ok(now) if now == *self.what.expect => {
                return Outcome::Denied(format!("{now} is still the current release"));
            }
            Ok(now) => return self.conflict(&now),
            Err(fault) => return Outcome::Transient(fault.to_string()),
        }
        match self.run(self.time_left()).await {
            Ok(run) => match run.end {
                End::Exited(0) => Outcome::Applied,
                End::Exited(_) | End::Signalled(_) => Outcome::Transient(self.told(&run)),
                End::TimedOut => Outcome::TimedOut(self.told(&run)),
            },
            Err(outcome) => outcome,
        }
    }

    async fn current(&self) -> Result<RevisionId, Fault> {
        let limit = self.time_left().max(self.reserve).min(self.what.each);
        current(self.what.workload, self.what.current, self.what.instance, limit).await
    }

    async fn run(&self, limit: Duration) -> Result<Run, Outcome> {
        let release = match self.what.purpose {
            CommandPurpose::Rollback | CommandPurpose::AwaitStatus => self.what.to,
            CommandPurpose::Retire => self.what.expect,
        };
        process::run(&Invocation {
            argv: self.what.argv,
            variables: variables(self.what.workload, Some(release), self.what.instance),
            directory: None,
            limit: limit.min(self.what.each),
            leftovers: match self.what.purpose {
                CommandPurpose::Rollback | CommandPurpose::Retire => Leftovers::Stay,
                CommandPurpose::AwaitStatus => Leftovers::Killed,
            },
        })
        .await
        .map_err(|error| Outcome::Denied(error.line()))
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn told(&self, run: &Run) -> String {
        format!("{}: {}", shown(self.what.argv), run.summary(MAX_DETAIL))
    }

    fn conflict(&self, found: &RevisionId) -> Outcome {
        Outcome::Conflict(format!(
            "the current release is {found}, neither {} nor {}: someone else changed it",
            self.what.expect, self.what.to
        ))
    }
}

#[cfg(test)]
mod tests;
