//! Just enough worse to be worse: where the evidence is thin, and where the difference is small.

use super::super::deployment::Split;
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("half-again-the-errors-canary", half_again),
    ("half-again-and-chance-is-all-canary", half_again_by_chance),
    ("a-few-errors-where-there-were-none-canary", few_where_none),
    ("some-errors-at-little-traffic-canary", some_at_little),
    ("many-errors-for-five-percent-canary", five_percent),
    ("twice-as-slow-canary", twice_as_slow),
    ("tail-much-longer-canary", longer_tail),
];

/// A canary that runs for long.
fn long_canary(dice: &mut Dice, share: f64) -> Story {
    let mut plan = Plan::draw(dice, Shape::Canary);
    plan.bake = dice.between(1200.0, 1500.0);
    plan.after = plan.bake + dice.between(300.0, 400.0);
    let mut story = Story::of(dice, plan);
    if let Split::Canary { share: of, .. } = &mut story.split {
        *of = share;
    }
    story
}

fn half_again(dice: &mut Dice) -> Case {
    let mut story = long_canary(dice, 0.5);
    story.rate = dice.between(200.0, 500.0);
    story.errors = dice.between(0.015, 0.03);
    let (factor, from) = (dice.between(1.55, 1.9), story.deploy_at);
    story.happen(Who::New, from, What::ErrorsTimes(factor));
    must(story, from)
}

/// The pods are alike, and stay so.
fn half_again_by_chance(dice: &mut Dice) -> Case {
    let mut story = long_canary(dice, 0.5);
    story.rate = dice.between(120.0, 300.0);
    story.errors = dice.between(0.03, 0.06);
    story.unrest = [0.12, 0.0, 0.0, 0.06];
    let from = story.deploy_at;
    story.happen(Who::New, from, What::ErrorsTimes(1.5));
    must(story, from)
}

fn few_where_none(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.rate = dice.between(80.0, 300.0);
    story.errors = 0.0;
    let (share, from) = (dice.between(0.006, 0.012), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Takes long to prove, and is no less worse for that.
fn some_at_little(dice: &mut Dice) -> Case {
    let mut story = long_canary(dice, 0.5);
    story.rate = dice.between(3.0, 10.0);
    story.errors = dice.between(0.001, 0.005);
    let (share, from) = (dice.between(0.06, 0.095), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn five_percent(dice: &mut Dice) -> Case {
    let mut story = long_canary(dice, 0.05);
    story.rate = dice.between(20.0, 100.0);
    let (share, from) = (dice.between(0.15, 0.6), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn twice_as_slow(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.latency = super::super::latency::Latency::one(dice.between(0.08, 0.3), dice.between(0.4, 0.7));
    let (factor, from) = (dice.between(2.0, 2.5), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor));
    must(story, from)
}

/// One request of ten goes another way, and takes so much longer that who meets it feels it.
fn longer_tail(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let (share, median, from) = (dice.between(0.08, 0.15), dice.between(0.6, 1.2), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median });
    must(story, from)
}
