//! Nothing is wrong, or as good as nothing.

use super::super::deployment::SHAPES;
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("healthy-direct", |dice| must_not(Story::draw(dice, Shape::Direct))),
    ("healthy-rolling", |dice| must_not(Story::draw(dice, Shape::Rolling))),
    ("healthy-canary", |dice| must_not(Story::draw(dice, Shape::Canary))),
    ("healthy-blue-green", |dice| must_not(Story::draw(dice, Shape::BlueGreen))),
    ("healthy-and-better", better),
    ("healthy-but-restless", restless),
    ("healthy-with-many-pods", many),
    ("healthy-with-one-pod", one),
    ("little-traffic", little),
    ("no-traffic-any-more", none),
    ("alike-just-under-the-threshold", |dice| under(dice, Shape::Direct)),
    ("alike-just-under-the-threshold-rolling", |dice| under(dice, Shape::Rolling)),
    ("hardly-worse-ratio", hardly_ratio),
    ("hardly-worse-points", hardly_points),
    ("hardly-slower", hardly_slower),
    ("two-modes-alike", two_modes),
];

/// Healthy at random, in every way that a story can be drawn; short, as there are many of them.
pub(in super::super) fn at_random(dice: &mut Dice) -> Story {
    let shape = dice.pick(&SHAPES);
    let mut plan = Plan::draw(dice, shape);
    plan.pods = dice.whole(1, 6);
    plan.before = dice.between(420.0, 900.0);
    plan.after = dice.between(700.0, 1100.0);
    plan.bake = dice.between(300.0, 800.0);
    let mut story = Story::of(dice, plan);
    story.rate = dice.log_between(0.1, 400.0);
    story.errors = dice.log_between(0.0001, 0.05);
    story.latency.slow_down(dice.log_between(0.2, 8.0));
    story.unrest = [dice.between(0.02, 0.3), dice.between(0.0, 0.4), dice.between(0.0, 0.3), dice.between(0.0, 0.12)];
    story
}

fn better(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.errors = dice.between(0.01, 0.03);
    let (fewer, faster) = (dice.between(0.1, 0.5), dice.between(0.4, 0.8));
    story.happen(Who::New, 0.0, What::ErrorsTimes(fewer));
    story.happen(Who::New, 0.0, What::Slower(faster));
    must_not(story)
}

fn restless(dice: &mut Dice) -> Case {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    story.errors = dice.between(0.01, 0.04);
    story.unrest = [0.35, 0.4, 0.3, 0.15];
    must_not(story)
}

fn many(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    (plan.pods, plan.gap) = (20, dice.between(15.0, 30.0));
    let mut story = Story::of(dice, plan);
    story.interval = 15.0;
    must_not(story)
}

fn one(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Rolling]);
    let mut plan = Plan::draw(dice, shape);
    plan.pods = 1;
    let mut story = Story::of(dice, plan);
    story.rate = dice.log_between(2.0, 30.0);
    must_not(story)
}

fn little(dice: &mut Dice) -> Case {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    story.rate = dice.log_between(0.05, 0.6);
    story.errors = dice.between(0.005, 0.03);
    must_not(story)
}

fn none(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Rolling]);
    let mut story = Story::draw(dice, shape);
    let from = story.deploy_at + dice.between(0.0, 60.0);
    story.happen(Who::All, from, What::Traffic(0.0));
    must_not(story)
}

fn under(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    story.errors = dice.between(0.08, 0.087);
    story.unrest = [0.12, 0.03, 0.05, 0.06];
    must_not(story)
}

fn hardly_ratio(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.rate = dice.between(100.0, 400.0);
    story.errors = dice.between(0.01, 0.04);
    story.happen(Who::New, 0.0, What::ErrorsTimes(1.15));
    must_not(story)
}

fn hardly_points(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.rate = dice.between(100.0, 400.0);
    story.errors = dice.between(0.0002, 0.0008);
    story.happen(Who::New, 0.0, What::Errors(0.0005));
    must_not(story)
}

fn hardly_slower(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.rate = dice.between(100.0, 400.0);
    let factor = dice.between(1.05, 1.15);
    story.happen(Who::New, 0.0, What::Slower(factor));
    must_not(story)
}

fn two_modes(dice: &mut Dice) -> Case {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    let (share, median) = (dice.between(0.02, 0.3), dice.between(0.6, 2.0));
    story.latency.divert(share, median, 0.25);
    must_not(story)
}
