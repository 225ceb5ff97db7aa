//! Time and load are the cause, or the fault takes its time.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("day-and-night", diurnal),
    ("flash-crowd-direct", |dice| crowd(dice, Shape::Direct)),
    ("flash-crowd-canary", |dice| crowd(dice, Shape::Canary)),
    ("flash-crowd-that-is-served", served),
    ("slower-under-load-direct", |dice| load(dice, Shape::Direct)),
    ("slower-under-load-canary", |dice| load(dice, Shape::Canary)),
    ("slow-burn-direct", burn_direct),
    ("slow-burn-alike", burn_alike),
    ("late-fault", late),
    ("late-slowness", late_slow),
    ("fault-past-probation", past),
];

/// One day squeezed into two hours, over few pods.
fn diurnal(dice: &mut Dice) -> Case {
    let shape = dice_shape(dice);
    let mut plan = Plan::draw(dice, shape);
    (plan.pods, plan.before, plan.after) = (dice.whole(2, 4), 2400.0, 6000.0);
    let mut story = Story::of(dice, plan);
    story.interval = 15.0;
    story.load = 0.25;
    let (from, swing) = (dice.between(0.0, 3000.0), dice.between(2.0, 4.0));
    let bell = story.happen(Who::All, from, What::Traffic(swing));
    (bell.until, bell.course) = (from + 7200.0, Course::Bell);
    must_not(story)
}

fn dice_shape(dice: &mut Dice) -> Shape {
    dice.pick(&[Shape::Direct, Shape::Rolling])
}

/// More than the service can carry: what is too much fails, and everything gets slower.
fn crowd(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    let from = if shape == Shape::Direct { story.later(dice) } else { story.deploy_at + dice.between(60.0, 500.0) };
    story.capacity = story.rate * dice.between(2.5, 4.0);
    story.load = dice.between(0.3, 0.8);
    let (times, lasts) = (dice.between(5.0, 10.0), dice.between(400.0, 900.0));
    story.happen_for(Who::All, from, lasts, What::Traffic(times));
    must_not(story)
}

fn served(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    let from = story.deploy_at + dice.between(60.0, 500.0);
    let (times, lasts) = (dice.between(4.0, 10.0), dice.between(200.0, 900.0));
    story.happen_for(Who::All, from, lasts, What::Traffic(times));
    must_not(story)
}

fn load(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    let from = story.deploy_at + dice.between(60.0, 300.0);
    story.load = dice.between(0.8, 1.3);
    let (times, lasts) = (dice.between(3.0, 5.0), dice.between(600.0, 1200.0));
    let bell = story.happen(Who::All, from, What::Traffic(times));
    (bell.until, bell.course) = (from + lasts, Course::Bell);
    must_not(story)
}

/// Grows for long, and stays below the threshold.
fn burn_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, from) = (dice.between(0.04, 0.085), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share)).course = Course::Ramp(1200.0);
    either(story, from)
}

fn burn_alike(dice: &mut Dice) -> Case {
    // It has grown to its end while the old version still serves: what comes after that nobody could tell apart.
    let mut story = Story::draw(dice, Shape::Canary);
    let (share, from) = (dice.between(0.04, 0.085), story.deploy_at);
    story.happen(Who::All, from, What::Errors(share)).course = Course::Ramp(800.0);
    must_not(story)
}

/// Few pods, long intervals, many hours.
fn long(dice: &mut Dice, hours: f64) -> Story {
    let shape = dice_shape(dice);
    let mut plan = Plan::draw(dice, shape);
    (plan.pods, plan.before, plan.after) = (dice.whole(1, 2), 1200.0, hours * 3600.0 + 1500.0);
    let mut story = Story::of(dice, plan);
    story.interval = 20.0;
    story.dialect.kube = false;
    story
}

fn late(dice: &mut Dice) -> Case {
    let hours = dice.between(2.0, 6.0);
    let mut story = long(dice, hours);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at + hours * 3600.0);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn late_slow(dice: &mut Dice) -> Case {
    let hours = dice.between(1.0, 3.0);
    let mut story = long(dice, hours);
    let (share, from) = (dice.between(0.1, 0.6), story.deploy_at + hours * 3600.0);
    story.happen(Who::New, from, What::Diverted { share, median: 9.0 });
    must(story, from)
}

fn past(dice: &mut Dice) -> Case {
    let mut story = long(dice, 24.5);
    (story.interval, story.dialect.process_start) = (30.0, false);
    let (share, from) = (dice.between(0.3, 1.0), story.deploy_at + 24.3 * 3600.0);
    story.happen(Who::New, from, What::Errors(share));
    must_not(story)
}
