//! An exposition page from wherever the operator names: an address, a file, standard input.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::NO;
use super::client::Failure;
use crate::observe::exposition::{ACCEPT, Decoder, Encoding, Format, Limits, ScanError};

/// How long the page may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Stands for standard input, as everywhere.
const STDIN: &str = "-";

/// A page as it was found.
pub(crate) struct Found {
    pub(crate) text: Vec<u8>,
    pub(crate) format: Format,
}

/// Fetches or reads the page at `source`.
///
/// # Errors
///
/// A file that can't be read is wrong usage; an address that does not give a page is a plain no.
pub(crate) async fn find(source: &str) -> Result<Found, Failure> {
    if source == STDIN {
        return read(std::io::stdin().lock()).context("standard input can't be read").map_err(Failure::usage);
    }
    match reqwest::Url::parse(source) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => fetch(url).await,
        Ok(_) | Err(_) => {
            let file = std::fs::File::open(source);
            file.and_then(read).with_context(|| format!("{source} can't be read")).map_err(Failure::usage)
        }
    }
}

/// What people call the source.
pub(crate) fn name(source: &str) -> &str {
    if source == STDIN { "standard input" } else { source }
}

/// Something is wrong with the page itself.
pub(crate) fn no(error: anyhow::Error) -> Failure {
    Failure { code: NO, error }
}

/// One byte more than a page may have is read, so that one that is too large is said to be.
fn read(from: impl Read) -> std::io::Result<Found> {
    let mut text = Vec::new();
    from.take(Limits::DEFAULT.body_bytes + 1).read_to_end(&mut text)?;
    let format = Format::sniff(&text);
    Ok(Found { text, format })
}

async fn fetch(url: reqwest::Url) -> Result<Found, Failure> {
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
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no(anyhow!(error).context("the page broke off")))? {
        decoder.push(&chunk, |plain| keep(&mut text, plain)).map_err(|error| no(anyhow!(error)))?;
    }
    decoder.finish(|plain| keep(&mut text, plain)).map_err(|error| no(anyhow!(error)))?;
    Ok(Found { text, format })
}

/// The decoder holds the limits; keeping what it lets through can't fail.
fn keep(text: &mut Vec<u8>, plain: &[u8]) -> Result<(), ScanError> {
    text.extend_from_slice(plain);
    Ok(())
}
