//! rollbackd watches a release, takes a bad one back, and proves that the service is well again.
//!
//! # The way of the data
//!
//! ```text
//! endpoint ─text→ observe ─Observation→ engine ─→ domain: window → signal → verdict → trigger → decision → plan
//!                                         │ records and notices, committed together: no durable record, no effect
//!                                         ├─→ store: journal and outbox ─→ notify: receivers
//!                                         └─Step→ act ─Outcome→ engine ─→ domain: verification, or the next rung
//! ```
//!
//! Each change of mind is a record. Records fold into state by one table of what may follow what, and that fold serves
//! the running daemon, the recovery after a crash, the alert, the report and `explain` alike.
//!
//! # Code map
//!
//! | room | holds | may use |
//! |---|---|---|
//! | [`domain`] | everything that decides: health, response, incidents, one controller a workload, the fleet and its brakes | nothing |
//! | [`config`] | policy files: read whole, checked whole, resolved to domain types | domain |
//! | [`engine`] | the one event loop, and the ports: the traits that the edges implement | domain |
//! | [`cluster`] | what a Kubernetes cluster offers: clients, and what its objects say of a workload | domain |
//! | [`host`] | what a plain host offers: release directories and programs | domain |
//! | [`net`] | how peers are reached: Prometheus' HTTP client options, bounds on every body | domain, config, host |
//! | [`observe`] | an edge: exposition pages, health endpoints, releases, workloads in a cluster | domain, config, engine's ports, clock, cluster, host, net |
//! | [`act`] | an edge: one match over the kinds of steps | domain, engine's ports, cluster, host, net |
//! | [`store`] | an edge: the journal and the outbox, in one SQLite file, and what replicas share of it | domain, engine's ports, cluster |
//! | [`clock`] | the only reader of the operating system's clock | domain |
//! | [`lease`] | an edge: who of several daemons acts, by a Lease of the cluster | domain, engine's ports, clock, cluster |
//! | [`notify`] | an edge: drains the outbox to the receivers | domain, config, engine's ports, host, markup, net |
//! | [`systemd`] | readiness, state and the watchdog, as the service manager asks for them | nothing |
//! | [`markup`] | templates for people: what a peer wrote is escaped by default | nothing |
//! | [`report`] | the post-mortem of an incident: Markdown, HTML with plots, JSON | domain, markup |
//! | [`telemetry`] | own metrics, log lines, the stream of events: the witness of what became durable | domain, engine's ports, markup |
//! | [`replay`] | recorded history through the same judgement: backtests | domain, config, net, observe |
//! | [`http`] | the server: status page, JSON API, events, metrics | all |
//! | [`cli`] | the command line: it puts the parts together, and asks a running daemon | all |
//! | [`demo`] | the actors of `rollbackd demo`: a service in two releases, its proxy, its traffic | all |
//!
//! # The dependency rule
//!
//! `domain` knows nothing of the others and nothing of the world: no async, clock, randomness, file, network or log.
//! Time arrives as an argument, effects leave as values. Edges implement the engine's ports and never know each other.
//! Only `clock` reads the operating system's clock. `tests/it/architecture.rs` holds all of this, with the table above
//! as data.
//!
//! # Invariants
//!
//! - Write-ahead: an intent is durable before its effect begins. After a restart each is proved applied, proved not
//!   applied, or handed to a human.
//! - Every effect is compare-and-set on what was observed, or safe to do twice.
//! - No data, no act: unknown is a verdict of its own and counts neither for nor against a release.
//! - The goal of a rollback was itself seen healthy under traffic, and is never found by "the previous one".
//! - Bounded: every queue, body, retry and wait has a named limit; every incident ends within a bounded time.
//! - The human wins: a release put there by anyone else ends the incident, and a pause stops all further steps.
//! - Each transition enters the outbox in the transaction of its record: told at least once, in order, under one id.
//! - Every inaction has a typed reason, which `explain` shows.
//! - No task is detached: one that ends before its time ends the process, and the service manager starts it again.
//!
//! # Words
//!
//! - **workload**: what is watched and rolled back. **Instance**: one running copy of it. **Target**: an address that is
//!   scraped.
//! - **release**, **revision**: one version of a workload, under a name that stays its own.
//! - **observation**: what one look at a target gave, or why it gave nothing. **Sample**, **series**, **window**: as in
//!   Prometheus.
//! - **signal**: a quantity over a window. **Verdict**: ok, breach or unknown, with evidence. **Trigger**: a signal, a
//!   threshold, how long it must hold, and how grave it is.
//! - **probation**: the time after a rollout in which a fault is put down to it.
//! - **known good**: seen healthy under traffic for long enough.
//! - **incident**: everything from the first suspicion to the closing report.
//! - **plan**, **step**: all that will be done, whole before anything is done.
//! - **hold**: no action for now, and why. **Brake**: a hold that spans workloads.
//! - **mode**: how far the daemon may go: observe, approve, enforce.

pub mod act;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod domain;
pub mod engine;
pub mod host;
pub mod http;
pub mod lease;
pub mod markup;
pub mod net;
pub mod notify;
pub mod observe;
pub mod replay;
pub mod report;
pub mod store;
pub mod systemd;
pub mod telemetry;
