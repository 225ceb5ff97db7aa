//! `rollbackd inspect`: what an exposition page offers, and what selectors match.

use std::time::Duration;

use anyhow::{Context, anyhow};

use super::client::Failure;
use super::{NO, YES, print};
use crate::domain::health::selector::Selector;
use crate::observe::exposition::{ACCEPT, Decoder, Encoding, Format, Inspection, Limits, inspect as read};

/// How long the page may take.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn inspect(source: &str, select: &[String], as_json: bool) -> u8 {
    print::finish(async {
        let selectors: Vec<Selector> = select
            .iter()
            .map(|text| Selector::parse(text).with_context(|| format!("--select {text:?} is not a selector")))
            .collect::<Result<_, _>>()
            .map_err(Failure::usage)?;
        let (page, format) = match reqwest::Url::parse(source) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => fetch(url).await?,
            Ok(_) | Err(_) => from_file(source)?,
        };
        let inspection: Inspection =
            read(&page, format, &selectors).map_err(|error| no(anyhow!(error).context(source.to_owned())))?;
        if as_json {
            return Ok(print::json(&inspection));
        }
        print::text(&print::clean(&inspection.to_string()));
        Ok(YES)
    })
}

fn no(error: anyhow::Error) -> Failure {
    Failure { code: NO, error }
}

fn from_file(path: &str) -> Result<(Vec<u8>, Format), Failure> {
    let page = std::fs::read(path).with_context(|| format!("{path} can't be read")).map_err(Failure::usage)?;
    let format = Format::sniff(&page);
    Ok((page, format))
}

async fn fetch(url: reqwest::Url) -> Result<(Vec<u8>, Format), Failure> {
    crate::net::tls::install();
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("the HTTP client can't be set up")
        .map_err(Failure::usage)?;
    let request = client.get(url.clone()).header("accept", ACCEPT).header("accept-encoding", "gzip");
    let mut response =
        request.send().await.map_err(|error| no(anyhow!(error).context(format!("{url} does not answer"))))?;
    if !response.status().is_success() {
        return Err(no(anyhow!("{url} answered {}", response.status())));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let format = Format::from_content_type(header("content-type"));
    let encoding = Encoding::from_content_encoding(header("content-encoding"))
        .ok_or_else(|| no(anyhow!("{url} answered in an encoding that was not asked for")))?;
    let mut decoder = Decoder::new(encoding, Limits::default());
    let mut page = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no(anyhow!(error).context("the page broke off")))? {
        decoder.push(&chunk, |plain| keep(&mut page, plain)).map_err(|error| no(anyhow!(error)))?;
    }
    decoder.finish(|plain| keep(&mut page, plain)).map_err(|error| no(anyhow!(error)))?;
    Ok((page, format))
}

/// The decoder holds the limits; keeping what it lets through can't fail.
fn keep(page: &mut Vec<u8>, plain: &[u8]) -> Result<(), crate::observe::exposition::ScanError> {
    page.extend_from_slice(plain);
    Ok(())
}
