//! Requests fail.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("many-errors-rolling", |dice| many(dice, Shape::Rolling)),
    ("many-errors-canary", |dice| many(dice, Shape::Canary)),
    ("many-errors-direct", |dice| many(dice, Shape::Direct)),
    ("many-errors-blue-green", |dice| many(dice, Shape::BlueGreen)),
    ("nothing-but-errors-canary", nothing_but),
    ("some-errors-rolling", some_rolling),
    ("some-errors-canary", some_canary),
    ("twice-the-errors-canary", twice),
    ("fails-fast-canary", fails_fast),
    ("some-errors-direct", |dice| soft_direct(dice, 0.02, 0.07)),
    ("nine-percent-direct", |dice| soft_direct(dice, 0.085, 0.092)),
    ("ramp-direct", ramp_direct),
    ("ramp-canary", ramp_canary),
    ("spike-direct", spike_direct),
    ("spike-alike-canary", spike_alike),
    ("short-spikes-direct", short_spikes),
    ("one-look-burst-canary", one_look),
    ("burst-beside-canary", burst_beside),
    ("flapping-direct", flapping_direct),
    ("flapping-canary", flapping_canary),
    ("little-traffic-errors-canary", little_canary),
    ("little-traffic-errors-direct", little_direct),
    ("one-bad-endpoint-canary", endpoint_canary),
    ("one-bad-endpoint-direct", |dice| soft_direct(dice, 0.01, 0.05)),
    ("recovers-in-time", recovers_early),
    ("recovers-too-late", recovers_late),
];

fn many(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    let share = dice.between(0.25, 1.0);
    let from = story.deploy_at;
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn nothing_but(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at;
    story.happen(Who::New, from, What::Errors(1.0));
    must(story, from)
}

fn some_rolling(dice: &mut Dice) -> Case {
    let mut story = slow_rolling(dice);
    let (share, from) = (dice.between(0.03, 0.08), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn some_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (share, from) = (dice.between(0.02, 0.06), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn twice(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    story.rate = dice.between(150.0, 500.0);
    story.errors = dice.between(0.01, 0.03);
    let (factor, from) = (dice.between(2.0, 2.6), story.deploy_at);
    story.happen(Who::New, from, What::ErrorsTimes(factor));
    must(story, from)
}

/// What fails takes no time, so that the rest is all the faster.
fn fails_fast(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (share, faster, from) = (dice.between(0.05, 0.5), dice.between(0.2, 0.5), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    story.happen(Who::New, from, What::Slower(faster));
    must(story, from)
}

/// Under the absolute threshold, and the old version is not beside it.
fn soft_direct(dice: &mut Dice, low: f64, high: f64) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, from) = (dice.between(low, high), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    either(story, from)
}

fn ramp_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (share, over) = (dice.between(0.25, 0.6), dice.between(200.0, 500.0));
    story.happen(Who::New, from, What::Errors(share)).course = Course::Ramp(over);
    must(story, from)
}

fn ramp_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at + dice.between(60.0, 200.0);
    let (share, over) = (dice.between(0.1, 0.5), dice.between(200.0, 600.0));
    story.happen(Who::New, from, What::Errors(share)).course = Course::Ramp(over);
    must(story, from)
}

fn spike_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (lasts, share) = (dice.between(30.0, 270.0), dice.between(0.2, 0.8));
    story.happen_for(Who::New, from, lasts, What::Errors(share));
    must_not(story)
}

fn spike_alike(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let from = story.deploy_at + dice.between(30.0, 500.0);
    let (lasts, share) = (dice.between(20.0, 270.0), dice.between(0.2, 0.8));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

fn short_spikes(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (on, off) = (dice.between(10.0, 40.0), dice.between(240.0, 400.0));
    let share = dice.between(0.3, 0.9);
    story.happen(Who::New, from, What::Errors(share)).course = Course::Flap(on, off);
    must_not(story)
}

fn one_look(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at + dice.between(150.0, 600.0);
    let share = dice.between(0.3, 1.0);
    story.happen_for(Who::New, from, 2.0, What::Errors(share));
    must_not(story)
}

/// Only the new version, beside a well old one, but over before anyone would have to act.
fn burst_beside(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at + dice.between(150.0, 500.0);
    let (lasts, share) = (dice.between(40.0, 240.0), dice.between(0.2, 0.8));
    story.happen_for(Who::New, from, lasts, What::Errors(share));
    either(story, from)
}

fn flapping_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.done_at + dice.between(10.0, 100.0);
    let share = dice.between(0.3, 0.9);
    story.happen(Who::New, from, What::Errors(share)).course = Course::Flap(180.0, 120.0);
    must(story, from)
}

fn flapping_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at + dice.between(60.0, 200.0);
    let share = dice.between(0.2, 0.7);
    story.happen(Who::New, from, What::Errors(share)).course = Course::Flap(180.0, 120.0);
    must(story, from)
}

fn little_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    story.rate = dice.between(0.5, 3.0);
    story.split = match story.split {
        super::super::deployment::Split::Canary { from, until, .. } => {
            super::super::deployment::Split::Canary { from, until, share: 0.5 }
        }
        split => split,
    };
    let (share, from) = (dice.between(0.7, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn little_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    story.rate = dice.between(0.4, 2.0);
    let (share, from) = (dice.between(0.7, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// One of many endpoints always fails.
fn endpoint_canary(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let (share, from) = (dice.between(0.02, 0.05), story.deploy_at);
    story.errors = dice.log_between(0.0005, 0.003);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn recovers_early(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (lasts, share, from) = (dice.between(60.0, 250.0), dice.between(0.2, 0.9), story.deploy_at);
    story.happen_for(Who::New, from, lasts, What::Errors(share));
    must_not(story)
}

fn recovers_late(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (lasts, share, from) = (dice.between(480.0, 900.0), dice.between(0.2, 0.9), story.deploy_at);
    story.happen_for(Who::New, from, lasts, What::Errors(share));
    must(story, from)
}
