//! `rollbackd check`: every error of a policy at once.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::anyhow;

use super::{NO, USAGE, YES, print};

pub(crate) fn check(files: &[PathBuf], as_json: bool) -> u8 {
    let report = match crate::config::check(files) {
        Ok(report) => report,
        Err(unreadable) => {
            print::complain(&anyhow!(unreadable));
            return USAGE;
        }
    };
    if as_json {
        print::json(&report);
    } else if report.valid {
        print::line(&report.render(false));
    } else {
        print::error_text(&report.render(std::io::stderr().is_terminal()));
    }
    if report.valid { YES } else { NO }
}
