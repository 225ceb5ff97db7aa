//! Errors as an operator wants to see them: where, what, and what to write instead.

use std::fmt;
use std::path::PathBuf;
use std::sync::LazyLock;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use regex::{Captures, Regex};
use serde::Serialize;

use super::problem::Problem;
use super::source::Source;

/// One error in a policy file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, in one line.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself; whatever looks like a secret is starred out.
    pub source: String,
    /// How many characters are meant, at least 1.
    #[serde(skip)]
    width: usize,
}

/// All errors of all policy files, in the order of files and lines. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostics {
    /// The errors.
    pub errors: Vec<Diagnostic>,
    /// How many more there are than are listed.
    pub omitted: usize,
    /// All of it is about files that the policy refers to, which may come later; the policy's text is right.
    #[serde(skip)]
    pub may_pass: bool,
}

impl Diagnostic {
    pub(super) fn new(problem: Problem, sources: &[Source]) -> Self {
        let Problem { place, message, hint, .. } = problem;
        let Some(source) = sources.get(place.file()) else {
            return Self { file: PathBuf::new(), line: 1, column: 1, message, hint, source: String::new(), width: 1 };
        };
        let span = place.span();
        let (line, column) = source.position(span.start);
        let (start, text) = source.line(line - 1);
        let meant = source.text.get(span.start..span.end.min(start + text.len()));
        Self {
            file: source.path.clone(),
            line,
            column,
            message,
            hint,
            source: star_secrets(text),
            width: meant.map_or(0, |meant| meant.chars().count()).max(1),
        }
    }

    /// The picture: message, place, source line with a caret, hint.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let offset = |column: usize| self.source.char_indices().nth(column).map_or(self.source.len(), |(at, _)| at);
        let span = offset(self.column - 1)..offset(self.column - 1 + self.width);
        let path = self.file.to_string_lossy();
        let snippet = Snippet::source(&*self.source)
            .line_start(self.line)
            .path(&*path)
            .annotation(AnnotationKind::Primary.span(span));
        let mut group = Level::ERROR.primary_title(&*self.message).element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(&**hint));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: message (hint)`, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl Diagnostics {
    /// Every picture, a blank line between two, and a count where there is more than one.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let mut text: String = self.errors.iter().map(|error| error.render(styled) + "\n\n").collect();
        let total = self.errors.len() + self.omitted;
        if self.omitted > 0 {
            text += &format!("{total} errors, of which the first {} are shown", self.errors.len());
        } else if total > 1 {
            text += &format!("{total} errors");
        } else {
            text.truncate(text.trim_end().len());
        }
        text
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// What must not be shown even though it should never have been written there: values of keys that name a secret,
/// credentials in URLs, and Slack's webhook addresses, which are secrets as a whole.
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?i)(\b(?:password|secret|credentials|token|bearer_token|routing_key|api_key|authorization|cookie|key)\b["']?\s*=\s*)("[^"]*"?|'[^']*'?|[^\s{\["',}]+)"#,
        r#"|(://)([^/\s"'@]*@)"#,
        r#"|(hooks\.slack\.com/services/)([^\s"']+)"#,
    ))
    .expect("the pattern is a constant")
});

/// Replaces every secret by as many stars, so that columns stay where they are.
fn star_secrets(line: &str) -> String {
    let star = |captures: &Captures<'_>| {
        let mut groups = captures.iter().skip(1).flatten();
        let kept = groups.next().map_or("", |kept| kept.as_str());
        let secret = groups.next().map_or(0, |secret| secret.as_str().chars().count());
        format!("{kept}{}", "*".repeat(secret))
    };
    SECRETS.replace_all(line, star).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_starred_and_columns_stay() {
        for (line, shown) in [
            (
                r#"basic_auth = { username = "u", password = "hunter2" }"#,
                r#"basic_auth = { username = "u", password = ********* }"#,
            ),
            ("token = 'abc' # x", "token = ***** # x"),
            ("secret = abc", "secret = ***"),
            (r#"password = "open"#, "password = *****"),
            (r#"url = "http://me:pw@host/x""#, r#"url = "http://******host/x""#),
            (
                r#"slack = "https://hooks.slack.com/services/T0/B0/x""#,
                r#"slack = "https://hooks.slack.com/services/*******""#,
            ),
            (r#"headers = { "Authorization" = "Bearer x" }"#, r#"headers = { "Authorization" = ********** }"#),
            (r#"password_file = "/run/p""#, r#"password_file = "/run/p""#),
        ] {
            assert_eq!(star_secrets(line), shown);
            assert_eq!(star_secrets(line).chars().count(), line.chars().count());
        }
    }
}
