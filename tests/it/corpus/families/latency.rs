//! Requests take longer.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("too-slow-direct", |dice| too_slow(dice, Shape::Direct)),
    ("too-slow-canary", |dice| too_slow(dice, Shape::Canary)),
    ("too-slow-blue-green", |dice| too_slow(dice, Shape::BlueGreen)),
    ("tail-too-slow-direct", tail_direct),
    ("slower-canary", slower_canary),
    ("slower-rolling", slower_rolling),
    ("slower-direct", slower_direct),
    ("tail-canary", tail_canary),
    ("slow-mode-grows-canary", slow_mode),
    ("slower-and-slower-direct", ramp_direct),
    ("slow-for-a-minute-direct", burst_direct),
    ("cold-and-slow", |dice| cold(dice, Shape::Rolling, None)),
    ("cold-and-slow-direct", |dice| cold(dice, Shape::Direct, None)),
    ("cold-slow-and-erring", |dice| cold(dice, Shape::Rolling, Some((0.03, 0.08)))),
    ("cold-slow-and-erring-direct", |dice| cold(dice, Shape::Direct, Some((0.03, 0.2)))),
    ("cold-and-erring-hard", cold_hard),
];

fn too_slow(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    let (share, median, from) = (dice.between(0.2, 0.9), dice.between(7.0, 12.0), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median });
    must(story, from)
}

fn tail_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, median, from) = (dice.between(0.03, 0.08), dice.between(8.0, 15.0), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median });
    must(story, from)
}

fn slower_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (factor, from) = (dice.between(3.0, 6.0), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor));
    must(story, from)
}

fn slower_rolling(dice: &mut Dice) -> Case {
    let mut story = slow_rolling(dice);
    let (factor, from) = (dice.between(3.0, 6.0), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor));
    must(story, from)
}

fn slower_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (factor, from) = (dice.between(2.5, 4.0), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor));
    either(story, from)
}

fn tail_canary(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (share, median, from) = (dice.between(0.03, 0.1), dice.between(1.5, 3.5), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median });
    must(story, from)
}

fn slow_mode(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.latency.divert(0.03, 0.8, 0.25);
    let (share, from) = (dice.between(0.3, 0.6), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median: 0.8 });
    must(story, from)
}

fn ramp_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (share, over) = (dice.between(0.2, 0.5), dice.between(200.0, 500.0));
    story.happen(Who::New, from, What::Diverted { share, median: 9.0 }).course = Course::Ramp(over);
    must(story, from)
}

fn burst_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.later(dice);
    let (share, lasts) = (dice.between(0.2, 0.8), dice.between(15.0, 90.0));
    story.happen_for(Who::New, from, lasts, What::Diverted { share, median: 8.0 });
    must_not(story)
}

fn cold(dice: &mut Dice, shape: Shape, errors: Option<(f64, f64)>) -> Case {
    let mut story = Story::draw(dice, shape);
    let age = if errors.is_some() { dice.between(30.0, 45.0) } else { dice.between(50.0, 70.0) };
    let (share, median) = (dice.between(0.3, 0.9), dice.between(2.0, 9.0));
    story.happen(Who::Young(age), story.deploy_at, What::Diverted { share, median });
    if let Some((low, high)) = errors {
        let share = dice.between(low, high);
        story.happen(Who::Young(age), story.deploy_at, What::Errors(share));
    }
    must_not(story)
}

/// Beyond the absolute threshold while the old version beside it is well, though a cold start would explain it.
fn cold_hard(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    let (share, from) = (dice.between(0.12, 0.3), story.deploy_at);
    story.happen(Who::Young(40.0), from, What::Errors(share));
    either(story, from)
}
