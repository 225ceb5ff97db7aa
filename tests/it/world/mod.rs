//! A small world for whole-machine tests: a service in some instances, a host that switches and restarts them, a journal
//! that survives, and a fleet that is fed through its public door. No clock, no network: time is an argument.

mod invariants;
mod policy;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rollbackd::domain::controller::{Answer, Input, Job, JobResult, Output, Reply, Request, RequestKind, Work};
use rollbackd::domain::fleet::Fleet;
use rollbackd::domain::id::{InstanceId, RevisionId, TargetId, WorkloadId};
use rollbackd::domain::incident::alert::{Alert, Phase};
use rollbackd::domain::incident::record::{Event, Record};
use rollbackd::domain::incident::state::WorkloadState;
use rollbackd::domain::observation::{
    Answer as HealthAnswer, Fault, FaultKind, HostReading, Observation, Page, ReleaseView, Sample, Seen, SeriesId,
};
use rollbackd::domain::policy::{Habitat, OperandId, Release, WorkloadPolicy};
use rollbackd::domain::response::plan::{Outcome, Plan, Purpose, StepKind};
use rollbackd::domain::time::{Span, Timestamp};

pub(crate) use policy::policy;

/// How long a process takes to answer where restarts are outages.
const COMES_UP: Span = Span::from_secs(4);

/// The world's step.
const TICK: Span = Span::from_millis(200);

/// How a release behaves, `age` after its process started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Behaviour {
    /// Share of requests that fail, in [0, 1].
    pub(crate) errors: f64,
    /// Requests a second that one instance gets.
    pub(crate) rate: f64,
    /// Whether its health endpoint says so.
    pub(crate) healthy: bool,
    /// Whether its metrics page can be read.
    pub(crate) readable: bool,
    /// Whether it takes connections and answers nothing, where its page can't be read.
    pub(crate) hangs: bool,
    /// Whether its counters read NaN.
    pub(crate) nan: bool,
    /// Whether its page shows what it showed when this began.
    pub(crate) frozen: bool,
    /// Whether its counters go by another name.
    pub(crate) renamed: bool,
}

/// A release that serves well.
pub(crate) const WELL: Behaviour = Behaviour {
    errors: 0.0,
    rate: 50.0,
    healthy: true,
    readable: true,
    hangs: false,
    nan: false,
    frozen: false,
    renamed: false,
};

/// How each release behaves at each time.
pub(crate) type Script = Box<dyn Fn(&str, Timestamp) -> Behaviour>;

/// When the world begins.
pub(crate) const DAWN: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// One running copy.
#[derive(Clone, Debug)]
struct Instance {
    link: RevisionId,
    /// When the link was put where it is.
    pointed: Timestamp,
    running: RevisionId,
    started: Timestamp,
    good: f64,
    bad: f64,
    oom_kills: u64,
    frozen: Option<Page>,
}

/// A job under way: what it will do, and when.
#[derive(Clone, Debug)]
struct Pending {
    workload: WorkloadId,
    ticket: u64,
    work: Work,
    at: Timestamp,
}

/// The whole world.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) policy: Arc<WorkloadPolicy>,
    pub(crate) fleet: Fleet,
    pub(crate) journal: Vec<Record>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) alert_times: Vec<Timestamp>,
    pub(crate) switches: Vec<(Timestamp, InstanceId, RevisionId)>,
    pub(crate) smoke_passes: bool,
    pub(crate) smoke_hangs: bool,
    pub(crate) restarts_fail: bool,
    /// The directory of releases can't be read.
    pub(crate) releases_hidden: bool,
    pub(crate) job_delay: Span,
    /// How long a restart runs, during which nobody answers, nor for a while after it; none: nobody sees it.
    pub(crate) outage: Option<Span>,
    pub(crate) findings: Vec<rollbackd::domain::response::plan::Finding>,
    /// Plans that were looked over.
    pub(crate) preflights: Vec<Plan>,
    instances: BTreeMap<InstanceId, Instance>,
    releases: Vec<RevisionId>,
    script: Script,
    pending: VecDeque<Pending>,
    /// No address is named any more.
    unlisted: bool,
    /// No record can be written.
    pub(crate) unwritten: bool,
    /// Crash points still to pass until the daemon dies at one; then again after the next number.
    pub(crate) crashes: VecDeque<u64>,
    /// Crash points passed so far.
    pub(crate) crash_points: u64,
}

impl World {
    /// A world in which `v1` serves in one instance, with `v1` and `v2` on disk.
    pub(crate) fn new(policy: WorkloadPolicy, script: Script) -> Self {
        let now = DAWN;
        let policy = Arc::new(policy);
        let mut fleet = Fleet::default();
        fleet.add(Arc::clone(&policy), WorkloadState::default());
        let names = policy::instances(&policy);
        let v1 = RevisionId::new("v1");
        let instance = Instance {
            link: v1.clone(),
            pointed: now,
            running: v1,
            started: now,
            good: 0.0,
            bad: 0.0,
            oom_kills: 0,
            frozen: None,
        };
        Self {
            now,
            fleet,
            journal: Vec::new(),
            alerts: Vec::new(),
            alert_times: Vec::new(),
            switches: Vec::new(),
            smoke_passes: true,
            smoke_hangs: false,
            restarts_fail: false,
            releases_hidden: false,
            job_delay: Span::from_millis(300),
            outage: None,
            findings: Vec::new(),
            preflights: Vec::new(),
            instances: names.into_iter().map(|name| (name, instance.clone())).collect(),
            releases: vec!["v1".into(), "v2".into()],
            policy,
            script,
            pending: VecDeque::new(),
            unlisted: false,
            unwritten: false,
            crashes: VecDeque::new(),
            crash_points: 0,
        }
    }

    /// Adds a release to the disk.
    pub(crate) fn publish(&mut self, revision: &str) {
        self.releases.insert(0, revision.into());
    }

    /// Removes a release from the disk.
    pub(crate) fn prune(&mut self, revision: &str) {
        self.releases.retain(|known| known.as_str() != revision);
    }

    /// Somebody deploys: every link is switched and every instance restarted.
    pub(crate) fn deploy(&mut self, revision: &str) {
        for instance in self.instances.values_mut() {
            instance.point(revision, self.now);
            instance.restart(self.now);
        }
    }

    /// Somebody deploys to one instance.
    pub(crate) fn deploy_to(&mut self, instance: &str, revision: &str) {
        let instance = self.instances.get_mut(&InstanceId::new(instance)).expect("a known instance");
        instance.point(revision, self.now);
        instance.restart(self.now);
    }

    /// Somebody switches every link, and restarts nothing.
    pub(crate) fn point(&mut self, revision: &str) {
        self.instances.values_mut().for_each(|instance| instance.point(revision, self.now));
    }

    /// When the process of each instance was started.
    pub(crate) fn starts(&self) -> Vec<Timestamp> {
        self.instances.values().map(|instance| instance.started).collect()
    }

    /// Another policy is put in force.
    pub(crate) fn adopt(&mut self, policy: WorkloadPolicy) {
        self.policy = Arc::new(policy);
        assert!(self.fleet.adopt(Arc::clone(&self.policy)), "it is watched");
    }

    /// An instance ends, and leaves the policy.
    pub(crate) fn leave(&mut self, instance: &str) {
        self.instances.remove(&InstanceId::new(instance)).expect("a known instance");
        let mut policy = WorkloadPolicy::clone(&self.policy);
        let Habitat::ReleaseDir(dir) = &mut policy.habitat else { panic!("{:?}", policy.habitat) };
        dir.instances.retain(|known| known.id.as_str() != instance);
        self.adopt(policy);
    }

    /// What names the addresses names none any more.
    pub(crate) fn unlist(&mut self) {
        self.unlisted = true;
        let targets: Vec<TargetId> = self.instances.keys().map(|id| TargetId::new(format!("{id}:80"))).collect();
        for target in targets {
            self.observe(Seen::PageGone { target: target.clone() });
            self.observe(Seen::EndpointGone { target });
        }
    }

    /// Every process ends and is started again.
    pub(crate) fn restart(&mut self) {
        for instance in self.instances.values_mut() {
            instance.restart(self.now);
        }
    }

    /// The kernel kills every process for memory; the service manager starts them again.
    pub(crate) fn oom_kill(&mut self) {
        for instance in self.instances.values_mut() {
            instance.oom_kills += 1;
            instance.restart(self.now);
        }
    }

    /// What every instance runs; `None` where they differ.
    pub(crate) fn running(&self) -> Option<&str> {
        let mut all = self.instances.values().map(|instance| instance.running.as_str());
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// What an instance runs.
    pub(crate) fn runs_at(&self, instance: &str) -> &str {
        self.instances[&InstanceId::new(instance)].running.as_str()
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, span: Span) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    /// Lets time pass until `done`, at most `limit`; whether it came to that.
    pub(crate) fn run_until(&mut self, limit: Span, done: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    /// The daemon dies and starts again from its journal. Jobs under way: done all the same, or never, as `lost` says.
    pub(crate) fn crash(&mut self, lost: bool) {
        let pending = std::mem::take(&mut self.pending);
        if !lost {
            for job in &pending {
                self.do_work(&job.work);
            }
        }
        let mut state = WorkloadState::default();
        for record in &self.journal {
            state.apply(record).expect("the journal folds");
        }
        self.fleet = Fleet::default();
        self.fleet.add(Arc::clone(&self.policy), state);
        // The first thing that a daemon does, before anything was seen.
        self.feed(Input::Tick);
    }

    /// The daemon dies, and starts with a policy that has the workload no more.
    pub(crate) fn start_without_it(&mut self) {
        let departed = WorkloadPolicy::of_the_departed(self.policy.id.clone(), self.policy.notify.clone());
        self.policy = Arc::new(departed);
        self.crash(true);
        self.fleet.leave(&self.policy.id);
    }

    /// The daemon is told to stop: jobs under way end and are noted.
    pub(crate) fn park(&mut self) {
        while let Some(Pending { ticket, work, .. }) = self.pending.pop_front() {
            let result = self.do_work(&work);
            self.feed(Input::Parked(Answer { ticket, result }));
        }
    }

    /// The job that was asked for last waited too long for its record.
    pub(crate) fn not_begun(&mut self) {
        self.pending.pop_back().expect("a job is under way");
        self.feed(Input::NotBegun("it could not be recorded in time, and was not begun".to_owned()));
    }

    /// The step that was asked for last is stopped before anything is written.
    pub(crate) fn stopped(&mut self) {
        let Pending { ticket, .. } = self.pending.pop_back().expect("a job is under way");
        let result = JobResult::Step(Outcome::Stopped("api: stopped before it was written to".to_owned()));
        self.feed(Input::Done(Answer { ticket, result }));
    }

    /// A moment at which the daemon may die. Whether it does.
    fn dies_here(&mut self) -> bool {
        self.crash_points += 1;
        match self.crashes.front_mut() {
            Some(0) => {
                self.crashes.pop_front();
                self.crash(true);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// An operator asks.
    pub(crate) fn ask(&mut self, kind: RequestKind) -> Reply {
        let request = Request { by: "ops".to_owned(), kind };
        self.feed(Input::Asked(request)).expect("a request has a reply")
    }

    /// Phases of all messages so far.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        self.alerts.iter().map(|alert| alert.phase).collect()
    }

    /// What each attempt was for.
    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        let plans = self.journal.iter().filter_map(|record| {
            if let Event::Planned { plan, .. } = &record.event { Some(plan.purpose) } else { None }
        });
        plans.collect()
    }

    /// The last message.
    pub(crate) fn last_alert(&self) -> &Alert {
        self.alerts.last().expect("a message was sent")
    }

    /// The open incident's id.
    pub(crate) fn incident(&self) -> Option<rollbackd::domain::id::IncidentId> {
        let state = self.fleet.get(&self.policy.id)?.state();
        state.incident.as_ref().map(|incident| incident.id.clone())
    }

    /// One step of the world.
    pub(crate) fn step(&mut self) {
        self.now = self.now + TICK;
        self.serve();
        self.finish_jobs();
        let millis = self.now.as_millis();
        let interval = i64::try_from(self.policy.interval.as_millis()).expect("short");
        self.look_at_releases();
        if millis % interval == 0 && !self.unlisted {
            self.look_at_instances();
        }
        let (_, due) = self.fleet.due(self.now);
        for _ in due {
            self.feed(Input::Tick);
        }
    }

    fn serve(&mut self) {
        for instance in self.instances.values_mut() {
            let behaviour = (self.script)(instance.running.as_str(), self.now);
            let requests = behaviour.rate * TICK.as_secs_f64();
            instance.bad += requests * behaviour.errors;
            instance.good += requests * (1.0 - behaviour.errors);
        }
    }

    fn look_at_releases(&mut self) {
        if self.releases_hidden {
            let detail = "/srv/app: Permission denied (os error 13)".to_owned();
            return self.observe(Seen::Releases(Err(Fault { kind: FaultKind::Local, detail })));
        }
        let view = ReleaseView {
            instances: self.instances.iter().map(|(id, instance)| (id.clone(), instance.link.clone())).collect(),
            available: self.releases.iter().map(|r| Release { revision: r.clone(), image: None }).collect(),
            pointed: self.instances.iter().map(|(id, instance)| (id.clone(), instance.pointed)).collect(),
            ..ReleaseView::default()
        };
        self.observe(Seen::Releases(Ok(view)));
    }

    fn look_at_instances(&mut self) {
        let down = self.down();
        let looks: Vec<Seen> = self
            .instances
            .iter_mut()
            .flat_map(|(id, instance)| {
                let behaviour = (self.script)(instance.running.as_str(), self.now);
                let is_down = down.contains(id);
                let behaviour = if is_down { Behaviour { readable: false, ..behaviour } } else { behaviour };
                let target = TargetId::new(format!("{id}:80"));
                let page = if behaviour.readable { Ok(instance.page(behaviour)) } else { Err(fault(behaviour)) };
                let answer = HealthAnswer {
                    healthy: behaviour.healthy,
                    detail: String::new(),
                    revision: Some(instance.running.clone()),
                };
                let answer = if is_down { Err(fault(behaviour)) } else { Ok(answer) };
                let reading =
                    HostReading { oom_kills: Some(instance.oom_kills), active: Some(true), ..HostReading::default() };
                [
                    Seen::Scrape { target: target.clone(), instance: Some(id.clone()), result: page },
                    Seen::Probe { target, instance: Some(id.clone()), result: answer },
                    Seen::Host { instance: id.clone(), result: Ok(reading) },
                ]
            })
            .collect();
        for seen in looks {
            self.observe(seen);
        }
    }

    fn observe(&mut self, seen: Seen) {
        let observation = Observation { workload: self.policy.id.clone(), at: self.now, seen };
        self.feed(Input::Observed(observation));
    }

    /// One input, and everything that follows: records become durable before any job begins.
    pub(crate) fn feed(&mut self, input: Input) -> Option<Reply> {
        let mut out = Output::default();
        let id = self.policy.id.clone();
        if self.unwritten {
            match input {
                Input::Observed(observation) => self.fleet.watch_only(&id, Some(&observation), self.now),
                Input::Tick => self.fleet.watch_only(&id, None, self.now),
                Input::Done(_) | Input::Parked(_) | Input::NotBegun(_) | Input::StoodStill(..) | Input::Asked(_) => {
                    unreachable!("it waits")
                }
            }
            return None;
        }
        let reply = self.fleet.handle(&id, input, self.now, &mut out);
        assert_eq!(out.refused, [], "the machine wrote a record that can't follow");
        let matters = !out.records.is_empty() || !out.jobs.is_empty();
        if matters && self.dies_here() {
            return reply;
        }
        self.journal.append(&mut out.records);
        self.alert_times.resize(self.alerts.len() + out.alerts.len(), self.now);
        self.alerts.append(&mut out.alerts);
        if matters {
            invariants::of_records(&self.journal, &self.alerts);
        }
        if matters && self.dies_here() {
            return reply;
        }
        for Job { workload, ticket, work } in out.jobs {
            if self.smoke_hangs && matches!(work, Work::Smoke(_)) {
                continue;
            }
            let takes = self.outage.filter(|_| restarted(&work).is_some()).unwrap_or(self.job_delay);
            self.pending.push_back(Pending { workload, ticket, work, at: self.now + takes });
        }
        reply
    }

    /// The instances that are down because their restart runs, or that come up.
    fn down(&self) -> Vec<InstanceId> {
        if self.outage.is_none() {
            return Vec::new();
        }
        let restarting = self.pending.iter().filter_map(|job| restarted(&job.work));
        let comes_up = |instance: &Instance| self.now.since(instance.started) < COMES_UP;
        let coming = self.instances.iter().filter(|(_, instance)| comes_up(instance)).map(|(id, _)| id);
        restarting.chain(coming).cloned().collect()
    }

    fn finish_jobs(&mut self) {
        while self.pending.front().is_some_and(|job| job.at <= self.now) {
            let Some(job) = self.pending.pop_front() else { return };
            if self.dies_here() {
                return;
            }
            let result = self.do_work(&job.work);
            assert_eq!(job.workload, self.policy.id);
            if self.dies_here() {
                return;
            }
            self.feed(Input::Done(Answer { ticket: job.ticket, result }));
        }
    }

    fn do_work(&mut self, work: &Work) -> JobResult {
        match work {
            Work::Preflight(plan) => {
                self.preflights.push((**plan).clone());
                JobResult::Preflight(self.findings.clone())
            }
            // A host has no recorder, and its releases name nothing.
            Work::Keep(_) => JobResult::Kept(Ok(BTreeMap::new())),
            Work::Record(_) => JobResult::Recorded(Box::default()),
            Work::Smoke(_) => JobResult::Smoke(self.smoke_passes, "exit status".to_owned()),
            Work::Step { kind, .. } => JobResult::Step(self.do_step(kind)),
        }
    }

    fn do_step(&mut self, kind: &StepKind) -> Outcome {
        match kind {
            StepKind::SwitchLink { instance, expect, to, .. } => {
                invariants::of_switch(&self.journal, &self.releases, expect, to);
                let at = self.instances.get_mut(instance).expect("a known instance");
                if at.link == *to {
                    return Outcome::AlreadyInEffect;
                }
                if at.link != *expect {
                    return Outcome::Conflict(format!("{} is in place", at.link));
                }
                at.point(to.as_str(), self.now);
                self.switches.push((self.now, instance.clone(), to.clone()));
                Outcome::Applied
            }
            StepKind::Restart { .. } if self.restarts_fail => Outcome::Transient("no such unit".to_owned()),
            StepKind::Restart { instance, .. } => {
                let now = self.now;
                self.instances.get_mut(instance).expect("a known instance").restart(now);
                Outcome::Applied
            }
            StepKind::Command { .. }
            | StepKind::Gate { .. }
            | StepKind::RestoreTemplate { .. }
            | StepKind::RestoreSetting { .. }
            | StepKind::Scale { .. }
            | StepKind::DeleteStuck { .. }
            | StepKind::DeleteCanary { .. }
            | StepKind::PauseOwner { .. }
            | StepKind::PutBackOwner { .. }
            | StepKind::AwaitGone { .. }
            | StepKind::AwaitCapacity { .. }
            | StepKind::SwitchService { .. }
            | StepKind::ProveTraffic { .. }
            | StepKind::AwaitWell { .. }
            | StepKind::AwaitRollout { .. } => unreachable!("not in this world"),
        }
    }
}

/// The instance that a job restarts.
fn restarted(work: &Work) -> Option<&InstanceId> {
    match work {
        Work::Step { kind: StepKind::Restart { instance, .. }, .. } => Some(instance),
        _ => None,
    }
}

impl Instance {
    fn point(&mut self, revision: &str, now: Timestamp) {
        self.link = revision.into();
        self.pointed = now;
    }

    fn restart(&mut self, now: Timestamp) {
        self.running = self.link.clone();
        self.started = now;
        self.good = 0.0;
        self.bad = 0.0;
    }

    /// Operand 0 is the bad requests, operand 1 all of them, as in [`policy`].
    fn page(&mut self, behaviour: Behaviour) -> Page {
        if behaviour.frozen {
            let now = self.live_page(behaviour);
            return self.frozen.get_or_insert(now).clone();
        }
        self.frozen = None;
        self.live_page(behaviour)
    }

    fn live_page(&self, behaviour: Behaviour) -> Page {
        let sample = |operand, series, value: f64| Sample {
            operand: OperandId(operand),
            series: SeriesId(series),
            bound: 0.0,
            value: if behaviour.nan { f64::NAN } else { value.floor() },
            timestamp: None,
        };
        let started = self.started.as_millis() as f64 / 1000.0;
        let (samples, family) = if behaviour.renamed {
            (Vec::new(), "web_hits")
        } else {
            (vec![sample(1, 0, self.good), sample(0, 1, self.bad), sample(1, 1, self.bad)], "http_requests")
        };
        let families = [family, "process_start_time_seconds"].map(str::to_owned);
        Page { samples, process_start: Some(started), wall_ahead: 0, families: Some(families.into()) }
    }
}

fn fault(behaviour: Behaviour) -> Fault {
    match behaviour.hangs {
        true => Fault { kind: FaultKind::Timeout, detail: "no answer".to_owned() },
        false => Fault { kind: FaultKind::Unreachable, detail: "no route".to_owned() },
    }
}
