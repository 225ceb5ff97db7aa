//! What the corpus under `tests/config` holds, and what single policies resolve to.

mod corpus;
mod defaults;
mod files;
mod hostile;
mod load;
mod round_trip;
mod schema;

use std::path::PathBuf;

use super::model::Config;

/// One policy file's text as a configuration; panics with the diagnostics.
fn parsed(text: &str) -> Config {
    super::parse(&[(PathBuf::from("test.toml"), text.to_owned())]).unwrap_or_else(|why| panic!("{why}"))
}

/// The diagnostics of a text that is wrong, one line each.
fn refused(text: &str) -> Vec<String> {
    let files = [(PathBuf::from("test.toml"), text.to_owned())];
    super::parse(&files).unwrap_err().errors.iter().map(ToString::to_string).collect()
}
