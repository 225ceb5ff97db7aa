//! What an image does, which its tag says: `shop:v2-errors40-after5s` is version `v2`, which fails 40 % of its requests from
//! five seconds after its start on.

use std::time::Duration;

/// What is in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Image {
    /// Share of requests that are answered with an error.
    pub(crate) errors: f64,
    /// Whether a fifth of the answers takes 6 s.
    pub(crate) slow: bool,
    /// Whether it is never ready.
    pub(crate) never_ready: bool,
    /// Whether its health endpoint says that it is not well.
    pub(crate) unhealthy: bool,
    /// How the process ends by itself.
    pub(crate) ends: Option<End>,
    /// Whether no registry has it.
    pub(crate) missing: bool,
    /// Whether its pods don't end when they are told to.
    pub(crate) stuck: bool,
    /// Time from the start until anything of this is so.
    pub(crate) after: Duration,
    /// Requests a second that come by themselves.
    pub(crate) rate: f64,
}

/// How a process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It takes memory until it is killed.
    Oom,
    /// Exit status 1.
    Crash,
}

/// A pod under traffic.
const WELL: Image = Image {
    errors: 0.0,
    slow: false,
    never_ready: false,
    unhealthy: false,
    ends: None,
    missing: false,
    stuck: false,
    after: Duration::ZERO,
    rate: 20.0,
};

impl Image {
    /// Reads a tag.
    ///
    /// # Panics
    ///
    /// With a word that means nothing: a test that asks for a fault must get it.
    pub(crate) fn of(image: &str) -> Self {
        let mut found = WELL;
        let words = tag(image).split_once('-').map_or("", |(_, words)| words);
        let words = words.replace("never-ready", "never_ready");
        for word in words.split('-').filter(|word| !word.is_empty()) {
            let number = |prefix: &str| word.strip_prefix(prefix)?.trim_end_matches('s').parse::<u32>().ok();
            match word {
                "slow" => found.slow = true,
                "never_ready" => found.never_ready = true,
                "unhealthy" => found.unhealthy = true,
                "oom" => found.ends = Some(End::Oom),
                "crash" => found.ends = Some(End::Crash),
                "missing" => found.missing = true,
                "stuck" => found.stuck = true,
                _ => match (number("errors"), number("after"), number("rate")) {
                    (Some(percent), ..) => found.errors = f64::from(percent) / 100.0,
                    (_, Some(seconds), _) => found.after = Duration::from_secs(seconds.into()),
                    (.., Some(rate)) => found.rate = f64::from(rate),
                    (None, None, None) => panic!("{image}: no image does `{word}`"),
                },
            }
        }
        found
    }

    /// The version of an image: its tag without the words about what it does.
    pub(crate) fn version(image: &str) -> &str {
        tag(image).split('-').next().unwrap_or_default()
    }
}

fn tag(image: &str) -> &str {
    image.rsplit_once(':').map_or("latest", |(_, tag)| tag)
}

#[test]
fn a_tag_says_what_an_image_does() {
    assert_eq!(Image::of("shop:v1"), WELL);
    assert_eq!(Image::of("registry:5000/shop:v1-rate100"), Image { rate: 100.0, ..WELL });
    let late = Image { errors: 0.4, after: Duration::from_secs(5), ..WELL };
    assert_eq!(Image::of("shop:v2-errors40-after5s"), late);
    assert_eq!(Image::of("shop:v2-never-ready-stuck"), Image { never_ready: true, stuck: true, ..WELL });
    assert_eq!(Image::of("shop:v2-oom").ends, Some(End::Oom));
    assert_eq!(Image::version("shop:v2-errors40"), "v2");
    assert!(std::panic::catch_unwind(|| Image::of("shop:v2-eroors40")).is_err());
}
