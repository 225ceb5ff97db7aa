//! What was growing when the release came, and goes on.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("rising-before-direct", |dice| must_not(rising(dice, Shape::Direct))),
    ("rising-before-rolling", |dice| must_not(rising(dice, Shape::Rolling))),
    ("rising-before-canary", |dice| must_not(rising(dice, Shape::Canary))),
    ("rising-before-up-to-a-level-direct", to_a_level),
    ("rising-before-and-many-errors-direct", many_errors),
    ("rising-a-little-before-and-errors-direct", on_top),
    ("rising-before-and-errors-canary", canary_errors),
    ("rising-until-the-rollout-and-errors-direct", over_and_anew),
    ("slower-and-slower-before-direct", slower),
    ("slower-and-slower-before-and-slow-direct", slower_and_slow),
];

/// For so many seconds before the rollout the share of failures rises from 1 % to this one.
fn rise(dice: &mut Dice, shape: Shape, to: f64) -> (Story, f64) {
    let over = dice.between(1200.0, 2400.0);
    let mut plan = Plan::draw(dice, shape);
    plan.before = over + dice.between(100.0, 900.0);
    plan.bake = dice.between(300.0, 900.0);
    let mut story = Story::of(dice, plan);
    (story.errors, story.rate) = (0.01, dice.log_between(30.0, 200.0));
    let from = story.deploy_at - over;
    let on = story.end - from;
    story.happen(Who::All, from, What::Errors((to - 0.01) * on / over)).course = Course::Ramp(on);
    (story, over)
}

/// It crosses the bound some minutes after the rollout, at the same pace.
fn rising(dice: &mut Dice, shape: Shape) -> Story {
    let to = dice.between(0.05, 0.08);
    rise(dice, shape, to).0
}

/// It rises beyond the bound and stays there.
fn to_a_level(dice: &mut Dice) -> Case {
    let to = dice.between(0.06, 0.08);
    let (mut story, over) = rise(dice, Shape::Direct, to);
    let most = dice.between(0.11, 0.13);
    for effect in &mut story.effects {
        (effect.what, effect.course) = (What::Errors(most), Course::Ramp(over * most / (to - 0.01)));
    }
    must_not(story)
}

fn many_errors(dice: &mut Dice) -> Case {
    let mut story = rising(dice, Shape::Direct);
    let (share, from) = (dice.between(0.3, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn on_top(dice: &mut Dice) -> Case {
    let to = dice.between(0.02, 0.04);
    let (mut story, _) = rise(dice, Shape::Direct, to);
    let (share, from) = (dice.between(0.15, 0.4), story.later(dice));
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn canary_errors(dice: &mut Dice) -> Case {
    let to = dice.between(0.02, 0.04);
    let (mut story, _) = rise(dice, Shape::Canary, to);
    let (share, from) = (dice.between(0.15, 0.6), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// The processes' own leak is over with them, and the new ones have another fault later.
fn over_and_anew(dice: &mut Dice) -> Case {
    let mut story = rising(dice, Shape::Direct);
    story.effects.iter_mut().for_each(|effect| effect.who = Who::Old);
    let (share, from) = (dice.between(0.13, 0.4), story.later(dice));
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Slow requests take longer and longer.
fn slowing(dice: &mut Dice) -> Story {
    let over = dice.between(1200.0, 2400.0);
    let mut plan = Plan::draw(dice, Shape::Direct);
    plan.before = over + dice.between(100.0, 900.0);
    let mut story = Story::of(dice, plan);
    let from = story.deploy_at - over;
    let on = story.end - from;
    // About 3 s of the slowest hundredth at the rollout.
    let times = dice.between(2.5, 3.5) / story.latency.quantile(0.99);
    story.happen(Who::All, from, What::Slower(1.0 + (times - 1.0) * on / over)).course = Course::Ramp(on);
    story
}

fn slower(dice: &mut Dice) -> Case {
    must_not(slowing(dice))
}

fn slower_and_slow(dice: &mut Dice) -> Case {
    let mut story = slowing(dice);
    let (share, from) = (dice.between(0.2, 0.8), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median: 30.0 });
    must(story, from)
}
