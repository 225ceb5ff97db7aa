//! After a switch somebody still asks the old version now and then whether it is up.

use super::super::deployment::{Split, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("asked-whether-it-is-up", |dice| must_not(asked(dice).0)),
    ("asked-whether-it-is-up-dependency-fails", dependency),
    ("asked-whether-it-is-up-some-errors", |dice| some_errors(dice, 0.04, 0.08)),
    ("asked-whether-it-is-up-few-errors", |dice| some_errors(dice, 0.02, 0.04)),
    ("asked-whether-it-is-up-many-errors", many_errors),
];

/// Once in 5 to 110 seconds, until the end; and when traffic moved.
fn asked(dice: &mut Dice) -> (Story, f64) {
    let mut story = Story::draw(dice, Shape::BlueGreen);
    let end = story.end + 1.0;
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::Old) {
        (pod.gone, pod.lives[0].end) = (end, end);
    }
    story.trickle = 1.0 / dice.log_between(5.0, 110.0);
    story.errors = dice.log_between(0.0005, 0.003);
    let Split::Switch(at) = story.split else { unreachable!("a blue-green rollout switches") };
    (story, at)
}

/// What the old version is asked needs no dependency.
fn dependency(dice: &mut Dice) -> Case {
    let (mut story, at) = asked(dice);
    let (from, lasts, share) = (at + dice.between(0.0, 90.0), dice.between(20.0, 60.0), dice.between(0.3, 0.8));
    story.happen_for(Who::New, from, lasts, What::Errors(share));
    must_not(story)
}

/// Below the policy's own bound there is nothing beside it to compare with: its past alone makes it worse.
fn some_errors(dice: &mut Dice, low: f64, high: f64) -> Case {
    let (story, at) = errors(dice, low, high);
    either(story, at)
}

fn many_errors(dice: &mut Dice) -> Case {
    let (story, at) = errors(dice, 0.3, 1.0);
    must(story, at)
}

fn errors(dice: &mut Dice, low: f64, high: f64) -> (Story, f64) {
    let (mut story, at) = asked(dice);
    let share = dice.between(low, high);
    story.happen(Who::New, at, What::Errors(share));
    (story, at)
}
