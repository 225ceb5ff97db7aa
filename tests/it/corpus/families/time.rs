//! Time and load are the cause, or the fault takes its time.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("day-and-night", diurnal),
    ("errors-stay-as-traffic-falls-direct", errors_stay),
    ("traffic-falls-with-the-rollout", traffic_falls),
    ("bursts-as-ever", bursts),
    ("flash-crowd-rolling", |dice| crowd(dice, Shape::Rolling)),
    ("errors-at-the-peak-canary", at_the_peak),
    ("cold-caches-direct", cold_caches),
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

/// So many requests a second fail as ever, of fewer and fewer.
fn errors_stay(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    story.errors = 0.0005;
    let (count, left) = (story.rate * dice.between(0.003, 0.012), dice.between(0.15, 0.5));
    story.happen(Who::All, 0.0, What::ErrorsEachSecond(count));
    let (from, over) = (story.deploy_at - dice.between(0.0, 200.0), dice.between(300.0, 900.0));
    story.happen(Who::All, from, What::Traffic(left)).course = Course::Ramp(over);
    must_not(story)
}

fn traffic_falls(dice: &mut Dice) -> Case {
    let shape = dice_shape(dice);
    let mut story = Story::draw(dice, shape);
    let (from, left) = (story.deploy_at, dice.between(0.05, 0.4));
    story.happen(Who::All, from, What::Traffic(left));
    must_not(story)
}

/// A job that runs every ten minutes is too much for what all depend on, before the rollout as after it.
fn bursts(dice: &mut Dice) -> Case {
    let shape = dice_shape(dice);
    let mut story = Story::draw(dice, shape);
    let (share, from) = (dice.between(0.2, 0.7), dice.between(0.0, 300.0));
    let on = dice.between(45.0, 90.0);
    story.happen(Who::All, from, What::Errors(share)).course = Course::Flap(on, 600.0 - on);
    must_not(story)
}

/// The new version is well until there is much to do.
fn at_the_peak(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (from, lasts) = (story.deploy_at + dice.between(60.0, 150.0), dice.between(600.0, 800.0));
    let (times, share) = (dice.between(1.5, 3.0), dice.between(0.1, 0.5));
    for (who, what) in [(Who::All, What::Traffic(times)), (Who::New, What::Errors(share))] {
        let bell = story.happen(who, from, what);
        (bell.until, bell.course) = (from + lasts, Course::Bell);
    }
    must(story, from)
}

/// Slow for longer than a process is young, and over before the hold.
fn cold_caches(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (factor, from, lasts) = (dice.between(2.0, 4.0), story.deploy_at, dice.between(120.0, 220.0));
    story.happen_for(Who::New, from, lasts, What::Slower(factor));
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
