//! `rollbackd test`: unit tests of policies, for a user's own CI.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::Serialize;

use super::{NO, USAGE, YES, print};
use crate::replay::{TestResult, run_suite};

#[derive(Serialize)]
struct FileResult {
    file: PathBuf,
    tests: Vec<TestResult>,
}

pub(crate) fn test(files: &[PathBuf], as_json: bool) -> u8 {
    let mut results = Vec::new();
    for file in files {
        match run_suite(file) {
            Ok(tests) => results.push(FileResult { file: file.clone(), tests }),
            Err(error) => {
                print::complain(&anyhow!(error));
                return USAGE;
            }
        }
    }
    let all_pass = results.iter().flat_map(|result| &result.tests).all(|test| test.wrong.is_empty());
    if as_json {
        print::json(&results);
    } else {
        results.iter().for_each(tell);
    }
    if all_pass { YES } else { NO }
}

fn tell(result: &FileResult) {
    for test in &result.tests {
        let word = if test.wrong.is_empty() { "ok" } else { "FAILED" };
        print::line(&print::clean(&format!("{word}  {}: {}", result.file.display(), test.name)));
        for wrong in &test.wrong {
            print::line(&print::clean(&format!("    {wrong}")));
        }
    }
}
