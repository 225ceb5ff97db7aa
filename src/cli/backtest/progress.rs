//! How far the reading has come, on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::cases::Case;

/// The bar, where standard error is a terminal and there is enough to read.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

/// Bytes that are read too fast for a bar.
const SMALL: u64 = 32 << 20;

impl Progress {
    /// A bar over all files' bytes.
    pub(super) fn of(cases: &[Case]) -> Self {
        let sizes = cases.iter().flat_map(|case| &case.files).filter_map(|file| std::fs::metadata(file).ok());
        Self::over(sizes.map(|meta| meta.len()).sum())
    }

    /// A bar over so many bytes.
    fn over(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        if bytes < SMALL || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// A bar in hundredths of the whole.
    pub(super) fn of_whole() -> Self {
        let bar = ProgressBar::new(100);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} %, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many bytes more were read.
    pub(super) fn read(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// So much of the whole is done, from 0 to 1.
    pub(super) fn reached(&self, share: f64) {
        self.0.set_position((share * 100.0) as u64);
    }

    /// Takes the bar away.
    pub(super) fn done(&self) {
        self.0.finish_and_clear();
    }
}
