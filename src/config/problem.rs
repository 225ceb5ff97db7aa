//! The list that every stage adds to, so that one run reports everything.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::{Place, Source};

/// More problems than this are only counted: nobody reads them, and a hostile file must not fill the memory.
const LISTED: usize = 1_000;

/// What sort of problem it is, which decides when it is noise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Not TOML.
    Syntax,
    /// Wrong by itself.
    Wrong,
    /// Something is not there. Beside a syntax error it may only have been unreadable.
    Absent,
    /// A file that the policy refers to is not what it should be, and may become it.
    File,
}

/// Something wrong at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    kind: Kind,
}

impl Problem {
    /// Says what to write instead.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Says what to write instead, where that is known.
    pub(crate) fn maybe_hint(&mut self, hint: Option<String>) {
        self.hint = hint;
    }
}

/// Everything that is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    /// Index of each in the list: what many workloads inherit is reported once.
    known: BTreeMap<(Place, String), usize>,
    omitted: usize,
}

impl Problems {
    /// How many were reported.
    pub(crate) fn count(&self) -> usize {
        self.list.len() + self.omitted
    }

    /// The text is not TOML.
    pub(crate) fn syntax(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        self.push(place, message.into(), Kind::Syntax)
    }

    /// Something is wrong by itself.
    pub(crate) fn wrong(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        self.push(place, message.into(), Kind::Wrong)
    }

    /// Something is missing, or a name leads nowhere.
    pub(crate) fn absent(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        self.push(place, message.into(), Kind::Absent)
    }

    /// A file that the policy refers to is not what it should be.
    pub(crate) fn file(&mut self, place: Place, message: impl Into<String>) -> &mut Problem {
        self.push(place, message.into(), Kind::File)
    }

    fn push(&mut self, place: Place, message: String, kind: Kind) -> &mut Problem {
        let index = match self.known.get(&(place, message.clone())) {
            Some(index) => *index,
            None if self.list.len() <= LISTED => {
                self.known.insert((place, message.clone()), self.list.len());
                self.list.push(Problem { place, message, hint: None, kind });
                self.list.len() - 1
            }
            // The last place is written over again and again, and is not shown.
            None => {
                self.omitted += 1;
                self.list[LISTED] = Problem { place, message, hint: None, kind };
                LISTED
            }
        };
        &mut self.list[index]
    }

    /// The diagnostics; `None` where nothing is wrong.
    pub(crate) fn into_diagnostics(mut self, sources: &[Source]) -> Option<Diagnostics> {
        self.omitted += self.list.len().saturating_sub(LISTED);
        self.list.truncate(LISTED);
        self.drop_echoes(sources);
        self.list.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        if self.list.is_empty() {
            return None;
        }
        let may_pass = self.omitted == 0 && self.list.iter().all(|problem| problem.kind == Kind::File);
        let errors = self.list.into_iter().map(|problem| Diagnostic::new(problem, sources)).collect();
        Some(Diagnostics { errors, omitted: self.omitted, may_pass })
    }

    /// A line that is not TOML is read as best it can be; what else seems wrong with it, or seems to be missing from
    /// its file, is most likely an echo of the same mistake.
    fn drop_echoes(&mut self, sources: &[Source]) {
        let line = |place: Place| sources.get(place.file()).map(|source| source.line_at(place.span().start));
        let broken: Vec<_> = self.list.iter().filter(|problem| problem.kind == Kind::Syntax).map(|p| p.place).collect();
        self.list.retain(|problem| match problem.kind {
            Kind::Syntax => true,
            Kind::Absent => broken.iter().all(|place| place.file() != problem.place.file()),
            Kind::Wrong | Kind::File => {
                broken.iter().all(|place| place.file() != problem.place.file() || line(*place) != line(problem.place))
            }
        });
    }
}
