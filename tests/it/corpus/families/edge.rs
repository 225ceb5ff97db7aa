//! At the edge of a rule: just beyond a threshold, in and out of it, and where few or unlike targets speak for a release.

use super::super::deployment::Split;
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("just-over-the-threshold-direct", just_over),
    ("flapping-fast-direct", flapping_fast),
    ("flapping-slowness-direct", flapping_slowness),
    ("slow-now-and-then-direct", now_and_then),
    ("one-client-again-and-again-direct", one_client),
    ("pods-come-and-go-cold", come_and_go_cold),
    ("nine-tenths-canary", |dice| must_not(canary(dice, 0.9, 0.95))),
    ("nine-tenths-many-errors-canary", |dice| many(dice, 0.9, 0.95)),
    ("one-percent-many-errors-canary", |dice| many(dice, 0.01, 0.02)),
    ("pods-slower-for-good", |dice| must_not(slower_for_good(dice))),
];

fn just_over(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, from) = (dice.between(0.125, 0.16), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// In and out of it several times within a window.
fn flapping_fast(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.done_at + dice.between(10.0, 100.0);
    let (on, off, share) = (dice.between(20.0, 40.0), dice.between(8.0, 15.0), dice.between(0.4, 0.9));
    story.happen(Who::New, from, What::Errors(share)).course = Course::Flap(on, off);
    must(story, from)
}

fn flapping_slowness(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.done_at + dice.between(60.0, 150.0);
    let share = dice.between(0.1, 0.6);
    story.happen(Who::New, from, What::Diverted { share, median: 9.0 }).course = Course::Flap(180.0, 120.0);
    must(story, from)
}

/// A pause of all processes every few minutes.
fn now_and_then(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (on, off, share) = (dice.between(5.0, 25.0), dice.between(200.0, 400.0), dice.between(0.1, 0.8));
    story.happen(Who::New, from, What::Diverted { share, median: 8.0 }).course = Course::Flap(on, off);
    must_not(story)
}

/// Little traffic, and someone repeats what fails for a while, now and then.
fn one_client(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    story.rate = dice.between(0.3, 3.0);
    let from = story.later(dice);
    let (on, off) = (dice.between(30.0, 120.0), dice.between(400.0, 700.0));
    let share = dice.between(0.3, 0.8);
    story.happen(Who::All, from, What::Errors(share)).course = Course::Flap(on, off);
    story.happen(Who::All, from, What::Traffic(1.0 + share)).course = Course::Flap(on, off);
    must_not(story)
}

/// Whoever comes in the place of another is slow and errs at first.
fn come_and_go_cold(dice: &mut Dice) -> Case {
    let mut case = super::targets::churn(dice);
    let story = &mut case.stories[0];
    let (age, share, from) = (dice.between(30.0, 45.0), dice.between(0.02, 0.08), story.deploy_at);
    story.happen(Who::Young(age), from, What::Errors(share));
    story.happen(Who::Young(age), from, What::Diverted { share: 0.3, median: 3.0 });
    case
}

/// With so much of the traffic for long.
fn canary(dice: &mut Dice, low: f64, high: f64) -> Story {
    let mut story = Story::draw(dice, Shape::Canary);
    if let Split::Canary { share, .. } = &mut story.split {
        *share = dice.between(low, high);
    }
    story
}

fn many(dice: &mut Dice, low: f64, high: f64) -> Case {
    let mut story = canary(dice, low, high);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Nodes of several kinds: some pods are slower than others for as long as they are there.
fn slower_for_good(dice: &mut Dice) -> Story {
    let mut story = slow_rolling(dice);
    for pod in &mut story.pods {
        pod.slowness = (0.15 * dice.normal().clamp(-2.0, 2.0)).exp();
    }
    story
}
