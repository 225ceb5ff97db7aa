//! Policy files: read whole, checked whole, every error at once.
//!
//! ```text
//! text ─parse_recoverable→ TOML with places ─raw→ the file as it is written ─resolve→ model
//! ```
//!
//! Each stage adds to one list of problems and goes on, so that one run reports everything that is wrong in all files.
//! [`model`] is what the rest of the program sees: everything resolved, nothing optional that has a default.

mod check;
pub mod diagnostic;
pub mod form;
mod load;
pub mod model;
mod problem;
mod raw;
pub mod referenced;
mod resolve;
pub mod schema;
pub mod selected;
pub(crate) mod source;
pub(crate) mod suggest;
mod units;

use std::path::PathBuf;

pub use self::check::{CheckReport, check};
pub use self::diagnostic::{Diagnostic, Diagnostics};
pub use self::load::{LoadError, load};
use self::model::Config;
use self::referenced::FileProbe;
use self::resolve::Resolver;
use self::source::Source;
use crate::domain::policy::{Mode, Operands, Signal};

/// What the command line says over the files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// Makes every workload at least this strict; one that is stricter stays as it is.
    pub mode: Option<Mode>,
}

/// The signals that exist without a section, as they are where no policy tunes them, and what they read.
#[must_use]
pub fn conventional() -> (Vec<Signal>, Operands) {
    resolve::conventional()
}

/// Reads policy texts without looking at any file that they name.
///
/// # Errors
///
/// Everything that is wrong in any of them.
pub fn parse(files: &[(PathBuf, String)]) -> Result<Config, Diagnostics> {
    read(files.to_vec(), Overrides::default(), &referenced::trust)
}

/// Reads policy texts, and looks at the files that they refer to.
fn read(files: Vec<(PathBuf, String)>, overrides: Overrides, probe: &FileProbe<'_>) -> Result<Config, Diagnostics> {
    let sources: Vec<Source> = files.into_iter().map(|(path, text)| Source::new(path, text)).collect();
    let mut problems = problem::Problems::default();
    let files = (0..).zip(&sources).map(|(index, source)| raw::read(index, source, &mut problems)).collect();
    let mut resolver = Resolver { problems, sources: &sources, overrides, probe };
    let config = resolver.resolve(files);
    match resolver.problems.into_diagnostics(&sources) {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(config),
    }
}

#[cfg(test)]
mod tests;
