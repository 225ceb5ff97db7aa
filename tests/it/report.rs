//! The report of a whole story, from the journal that the story left behind.

use rollbackd::domain::incident::alert::Phase;
use rollbackd::domain::incident::record::Record;
use rollbackd::domain::incident::report::{Readings, Report};
use rollbackd::domain::policy::{Mode, Strategy, WorkloadPolicy};
use rollbackd::domain::time::{Span, Timestamp};
use rollbackd::report;

use crate::world::{Behaviour, WELL, World, policy};

const SETTLE: Span = Span::from_secs(60);

fn told(strategy: Strategy, instances: &[&str], mode: Mode) -> (World, Report) {
    let policy = WorkloadPolicy { mode, ..policy(strategy, instances) };
    let mut world = World::new(
        policy,
        Box::new(|revision, _| if revision == "v2" { Behaviour { errors: 0.4, ..WELL } } else { WELL }),
    );
    world.run(SETTLE);
    world.deploy("v2");
    let is_over =
        |world: &World| world.alerts.last().is_some_and(|last| matches!(last.phase, Phase::Restored | Phase::Held));
    assert!(world.run_until(Span::from_secs(400), is_over));
    world.run(Span::from_secs(30));
    let report = tell(&world);
    (world, report)
}

fn tell(world: &World) -> Report {
    let records: Vec<Record> = world.journal.iter().filter(|record| record.incident.is_some()).cloned().collect();
    let controller = world.fleet.get(&world.policy.id).unwrap();
    let signals = world.policy.signals.keys().map(|signal| (signal.clone(), controller.history(signal))).collect();
    Report::from_records(&records, Readings { signals }).unwrap()
}

#[test]
fn a_restored_incident_is_told_whole() {
    let (world, report) = told(Strategy::Rolling, &["a", "b"], Mode::Enforce);
    insta::assert_snapshot!("restored", report::markdown(&report).unwrap());
    let html = report::html(&report).unwrap();
    // Kept where a person can open it.
    std::fs::write(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html"), &html).unwrap();
    for part in ["<svg viewBox", "class=\"curve\"", "class=\"bound\"", ">onset<", ">restored +", "target 5m: met"] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(!html.contains("http://") || !html.contains("src="), "it needs nothing else");
    let json: serde_json::Value = serde_json::from_str(&report::json(&report).unwrap()).unwrap();
    assert_eq!(json["outcome"], "restored");
    let sent: Vec<_> = world.alerts.iter().map(|alert| alert.summary.clone()).collect();
    let retold: Vec<_> = report.alerts.iter().map(|told| told.summary.clone()).collect();
    assert_eq!(retold, sent, "the report tells what was sent");
}

/// Readings are put aside as the incident ends, and not all of them may have come by then.
#[test]
fn a_plot_shows_every_marker_and_cuts_no_label_off() {
    let (world, whole) = told(Strategy::Direct, &["a"], Mode::Enforce);
    let records: Vec<Record> = world.journal.iter().filter(|record| record.incident.is_some()).cloned().collect();
    let restored = whole.times.restored.unwrap();
    let label =
        regex::Regex::new(r#"<text class="tick" x="([0-9.]+)" y="[0-9.]+" text-anchor="middle">([^<]*)<"#).unwrap();
    for seconds in -5_i64..25 {
        let end = Timestamp::from_millis(restored.as_millis() + seconds * 1_000);
        let mut signals = Vec::new();
        for plot in &whole.plots {
            signals.push((plot.signal.clone(), plot.points.iter().filter(|(at, _)| *at <= end).copied().collect()));
        }
        let html = report::html(&Report::from_records(&records, Readings { signals }).unwrap()).unwrap();
        for marker in [">onset<", ">detected +", ">decided +", ">restored +"] {
            assert!(html.contains(marker), "{seconds} s after the end: {marker} is missing");
        }
        let mut labels = 0;
        for found in label.captures_iter(&html) {
            labels += 1;
            // Digits of 11 pixels' height are less than 7 wide.
            let half = found[2].len() as f64 * 7.0 / 2.0;
            let x: f64 = found[1].parse().unwrap();
            assert!(x - half >= 0.0 && x + half <= 880.0, "{} at {x} is cut off", &found[2]);
        }
        assert!(labels > 1, "{html}");
    }
}

#[test]
fn a_held_incident_says_why_nothing_was_done() {
    let (_, report) = told(Strategy::Direct, &["a"], Mode::Observe);
    assert!(report.open && report.attempts.is_empty());
    assert_eq!(report.holds.last().map(|hold| hold.guard.as_str()), Some("observe-mode"));
    let text = report::markdown(&report).unwrap();
    assert!(text.contains("| observe-mode | the mode is observe: nothing is changed |"), "{text}");
}

#[test]
fn without_a_record_there_is_no_report() {
    let error = Report::from_records(&[], Readings::default()).unwrap_err();
    assert_eq!(error.to_string(), "there is no record of this incident");
}
