//! Good files are taken; bad ones are answered with the text beside them.
//!
//! `UPDATE_EXPECT=1` writes the texts anew; read the difference before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::diagnostic::Diagnostics;
use crate::config::model::Config;
use crate::config::referenced::{Content, FileFault};
use crate::config::{Overrides, read};

fn corpus(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(kind);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml")).collect();
    cases.sort();
    cases
}

/// Reads a case, a file or a directory of files that belong together, under names that do not depend on the machine.
/// Secrets are there unless their path says otherwise.
fn read_case(case: &Path) -> Result<Config, Diagnostics> {
    let mut paths = vec![case.to_owned()];
    if case.is_dir() {
        paths = fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
    }
    let base = case.parent().unwrap();
    let named = |path: &Path| (path.strip_prefix(base).unwrap().to_owned(), fs::read_to_string(path).unwrap());
    let files = paths.iter().map(|path| named(path)).collect();
    let probe = |path: &Path, _: Content| {
        if path.to_string_lossy().contains("missing") {
            return Err(FileFault { message: "does not exist".to_owned(), hint: None });
        }
        Ok(())
    };
    read(files, Overrides::default(), &probe)
}

#[test]
fn good_files_are_taken() {
    for case in corpus("good") {
        if let Err(diagnostics) = read_case(&case) {
            panic!("{}\n{diagnostics}", case.display());
        }
    }
}

#[test]
fn bad_files_are_answered_as_expected() {
    let cases = corpus("bad");
    assert!(cases.len() >= 30, "the corpus has only {} bad files", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let answer = match read_case(&case) {
            Ok(_) => "taken".to_owned(),
            Err(diagnostics) => diagnostics.to_string(),
        };
        let expected = case.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, format!("{answer}\n")).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default().trim_end() != answer.trim_end() {
            wrong += &format!("{}:\n{answer}\n\n", case.display());
        }
    }
    assert!(wrong.is_empty(), "answers differ from what is beside the files:\n\n{wrong}");
}
