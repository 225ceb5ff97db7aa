//! Log lines: text or JSON on the standard error stream, one line an event whatever its fields hold, and as systemd's
//! journal likes them where that is what reads them.

use std::io::{self, Write};
use std::str::FromStr;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::util::SubscriberInitExt;

/// What is logged where `RUST_LOG` says nothing. Each request to a cluster that fails is told by whoever made it, with what
/// comes of it; the library would tell it once more, as an error.
const DEFAULT_FILTER: &str = "info,kube_client=off";

/// How a log line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Neither `text` nor `json`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no log format: text or json")]
pub struct UnknownFormat(String);

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// `RUST_LOG` can't be understood.
    #[error("RUST_LOG={text:?} can't be understood")]
    Filter {
        /// What it says.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else logs already.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets logging up for the whole process; the first call wins.
///
/// # Errors
/// [`LogSetupError`].
pub fn init(format: LogFormat) -> Result<(), LogSetupError> {
    let text = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty());
    let text = text.unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|source| LogSetupError::Filter { text, source })?;
    let lines = Lines { journal: is_stderr_the_journal(), sink: io::stderr };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(false);
    match (format, lines.journal) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).finish().try_init()?,
        // The journal has time and level of its own.
        (LogFormat::Text, true) => builder.without_time().with_level(false).finish().try_init()?,
        (LogFormat::Text, false) => builder.with_timer(SystemTime).finish().try_init()?,
    }
    Ok(())
}

/// Whether standard error is the stream that `JOURNAL_STREAM` names by device and inode, as `systemd.exec(5)` says.
fn is_stderr_the_journal() -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Writes events as lines.
#[derive(Clone, Copy)]
struct Lines<S> {
    journal: bool,
    sink: S,
}

impl<'a, W: Write, S: Fn() -> W> MakeWriter<'a> for Lines<S> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { priority: None, sink: (self.sink)() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Line { priority: self.journal.then(|| priority(*meta.level())), sink: (self.sink)() }
    }
}

/// The prefix that `sd-daemon(3)` defines.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// One event's line. It comes in one piece; a line end within it, or a character that steers a terminal, is something
/// that a peer put there.
struct Line<W> {
    priority: Option<&'static str>,
    sink: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let line = format!("{}{}\n", self.priority.unwrap_or_default(), crate::markup::plain(body));
        self.sink.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(journal: bool, json: bool) -> String {
        let sink = Sink::default();
        let written = Arc::clone(&sink.0);
        let lines = Lines { journal, sink: move || sink.clone() };
        let builder = tracing_subscriber::fmt()
            .with_writer(lines)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_level(false);
        let nasty = "x\n<0>forged \u{1b}[31m";
        let log = || tracing::warn!(display = %nasty, debug = ?nasty, "told");
        if json {
            tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), log);
        } else {
            tracing::subscriber::with_default(builder.finish(), log);
        }
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        for (journal, json) in [(false, false), (true, false), (false, true), (true, true)] {
            let text = logged(journal, json);
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
            assert_eq!(text.starts_with("<4>"), journal, "{text:?}");
        }
        assert!(logged(true, false).starts_with("<4>told display=x <0>forged  [31m"), "{:?}", logged(true, false));
    }
}
