//! What only the way of scraping brings into a recording.

use super::scene::{DAWN, POLICY, subject};
use crate::domain::time::Timestamp;
use crate::replay::{Near, Options, Outcome, Recorder, replay};

fn near<'o>(outcome: &'o Outcome, trigger: &str) -> &'o Near {
    outcome.near.iter().find(|near| near.trigger == trigger).unwrap()
}

/// Each series of a page has its own milliseconds, and nothing was recorded for a minute.
#[test]
fn series_of_a_target_that_are_milliseconds_apart_are_one_page() {
    let outcome = |apart: i64| {
        let mut recorder = Recorder::new();
        let labels = |code| [("instance", "a"), ("revision", "v1"), ("code", code)];
        let good = recorder.series("http_requests_total", &labels("200")).unwrap();
        let bad = recorder.series("http_requests_total", &labels("500")).unwrap();
        for age in (0..3_600).step_by(5).filter(|age| !(1_500..1_560).contains(age)) {
            let at = (DAWN + age) * 1000;
            for (series, at, value) in [(good, at, 9_000_000 + age * 50), (bad, at + apart, 40_000 + age / 5)] {
                recorder.point(series, Timestamp::from_millis(at), value as f64).unwrap();
            }
        }
        replay(&recorder.finish(), &[subject(POLICY)], &Options::default(), &mut ()).unwrap()
    };
    let together = outcome(0);
    assert!(near(&together, "error rate").worst.unwrap().1 < 0.02, "{together:?}");
    for apart in [1, 30, 240] {
        let outcome = outcome(apart);
        assert_eq!(near(&outcome, "error rate"), near(&together, "error rate"), "{apart} ms");
        assert_eq!(outcome.decisions, together.decisions, "{apart} ms");
    }
}
