//! A recording from a Prometheus server.

use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::Config;
use super::cases::policies;
use super::progress::Progress;
use crate::config::model::{Authorization, HttpOptions};
use crate::domain::time::{Span, Timestamp};
use crate::net::Caller;
use crate::replay::{Fetch, Recorder, Recording, moment_from};

use super::ServerArgs;

/// Fetches everything that the policies ask for.
pub(super) fn record(args: &ServerArgs, config: &Config, progress: &Progress) -> anyhow::Result<Recording> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(fetch(args, config, progress))
}

async fn fetch(args: &ServerArgs, config: &Config, progress: &Progress) -> anyhow::Result<Recording> {
    let address = args.prometheus.as_deref().unwrap_or_default();
    let server = reqwest::Url::parse(address).with_context(|| format!("--prometheus {address:?} is no address"))?;
    anyhow::ensure!(matches!(server.scheme(), "http" | "https"), "--prometheus {address:?} is neither http nor https");
    let range = (moment("--from", args.from.as_deref())?, moment("--to", args.to.as_deref())?);
    anyhow::ensure!(range.0 < range.1, "--from lies after --to");
    crate::net::tls::install();
    let authorization = args
        .prometheus_token_file
        .clone()
        .map(|credentials_file| Authorization { scheme: "Bearer".to_owned(), credentials_file });
    let caller = Caller::new(Arc::new(HttpOptions { authorization, ..HttpOptions::default() }));
    let policies = policies(config);
    let shortest = policies.iter().map(|policy| policy.interval).min().unwrap_or(Span::from_secs(15));
    let step = match &args.step {
        Some(text) => Span::from(humantime::parse_duration(text).with_context(|| format!("--step {text:?}"))?),
        None => shortest,
    };
    anyhow::ensure!(step > Span::ZERO, "--step 0 never ends");
    let fetch = Fetch { server, caller: &caller, range, matchers: args.matchers.clone().unwrap_or_default(), step };
    let mut recorder = Recorder::new();
    fetch.samples(&policies, &mut recorder, &|share| progress.reached(share)).await.map_err(|error| anyhow!(error))?;
    for query in config.workloads.values().flat_map(|workload| &workload.sources.queries) {
        fetch.expression(query, &mut recorder).await.map_err(|error| anyhow!(error))?;
    }
    progress.done();
    Ok(recorder.finish())
}

/// The time that an option says.
pub(super) fn moment(option: &str, text: Option<&str>) -> anyhow::Result<Timestamp> {
    let text = text.with_context(|| format!("{option} is missing"))?;
    moment_from(text).ok_or_else(|| anyhow!("{option} {text:?} is no time: write 2026-01-31T12:00:00Z or seconds"))
}
