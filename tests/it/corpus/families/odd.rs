//! Recorded in odd ways.

use super::super::deployment::{Life, SHAPES, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("looked-at-twice", twice),
    ("looked-at-twice-many-errors", twice_errors),
    ("intervals-apart", intervals),
    ("intervals-apart-many-errors", intervals_errors),
    ("deploy-told-early-or-late", told_off),
    ("deploy-told-early-or-late-many-errors", told_off_errors),
    ("deploy-unseen-many-errors", unseen_errors),
    ("old-pods-unseen-many-errors", old_unseen),
    ("old-pods-unseen", old_unseen_well),
    ("label-found-by-its-values", found),
    ("label-found-by-its-values-many-errors", found_errors),
    ("told-by-time-alone", by_time),
    ("told-by-time-alone-many-errors", by_time_errors),
    ("looked-at-rarely", |dice| must_not(rarely(dice))),
    ("looked-at-rarely-many-errors", rarely_errors),
    ("no-bounds-left", no_bounds),
    ("no-bounds-left-many-errors", no_bounds_errors),
    ("slow-to-come-up-direct", slow_start),
    ("errors-as-pods-end", as_they_end),
    ("flapping-before-and-after", flapping_alike),
    ("only-the-old-one-is-killed", old_killed),
    ("many-pods-many-errors-rolling", many_pods),
];

fn many_errors(dice: &mut Dice, mut story: Story) -> Case {
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Two jobs look at each pod: every request is counted twice.
fn twice(dice: &mut Dice) -> Case {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    story.dialect.twice = true;
    story.errors = dice.between(0.005, 0.03);
    must_not(story)
}

fn twice_errors(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    story.dialect.twice = true;
    many_errors(dice, story)
}

/// Some pods are looked at much less often than others.
fn apart(dice: &mut Dice) -> Story {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    story.interval = 5.0;
    for pod in &mut story.pods {
        pod.every = dice.pick(&[1.0, 3.0, 6.0]);
    }
    story
}

fn intervals(dice: &mut Dice) -> Case {
    must_not(apart(dice))
}

fn intervals_errors(dice: &mut Dice) -> Case {
    let story = apart(dice);
    many_errors(dice, story)
}

/// Whoever wrote the time of the deployment down did it by hand.
fn off(dice: &mut Dice) -> Story {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    (story.dialect.meta, story.dialect.meta_late) = (true, dice.between(-30.0, 30.0));
    story
}

fn told_off(dice: &mut Dice) -> Case {
    must_not(off(dice))
}

fn told_off_errors(dice: &mut Dice) -> Case {
    let story = off(dice);
    many_errors(dice, story)
}

/// Nothing was recorded around the time of the deployment.
fn unseen_errors(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    let (before, after) = (dice.between(30.0, 120.0), dice.between(30.0, 240.0));
    story.lose(Who::All, story.deploy_at - before, before + after, Loss::Gap);
    let share = dice.between(0.25, 1.0);
    story.happen(Who::New, story.deploy_at, What::Errors(share));
    // What nobody saw holds nothing.
    let from = story.deploy_at + after;
    must(story, from)
}

/// The old version's pages were never recorded. That it was there exporters may tell, and who wrote the deployment down.
fn without_old(dice: &mut Dice) -> Story {
    let shape = dice.pick(&[Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    story.dialect.meta = true;
    story.lose(Who::Old, 0.0, f64::INFINITY, Loss::Gap);
    story
}

fn old_unseen(dice: &mut Dice) -> Case {
    let story = without_old(dice);
    many_errors(dice, story)
}

fn old_unseen_well(dice: &mut Dice) -> Case {
    must_not(without_old(dice))
}

/// A label tells the releases that is called otherwise than it is taken for.
fn otherwise(dice: &mut Dice) -> Story {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    story.dialect.meta = true;
    story.dialect.release_label = dice.pick(&["version", "app_version", "image_tag"]);
    story
}

fn found(dice: &mut Dice) -> Case {
    must_not(otherwise(dice))
}

fn found_errors(dice: &mut Dice) -> Case {
    let story = otherwise(dice);
    many_errors(dice, story)
}

/// No label and no name tells a release: only the time at which the deployment began does.
fn unnamed(dice: &mut Dice) -> Story {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    let dialect = &mut story.dialect;
    (dialect.meta, dialect.release_label, dialect.pod_label, dialect.kube) = (true, "", false, false);
    story
}

fn by_time(dice: &mut Dice) -> Case {
    must_not(unnamed(dice))
}

fn by_time_errors(dice: &mut Dice) -> Case {
    let story = unnamed(dice);
    many_errors(dice, story)
}

/// As often as most Prometheus servers look, or less.
fn rarely(dice: &mut Dice) -> Story {
    let shape = dice.pick(&SHAPES);
    let mut story = Story::draw(dice, shape);
    story.interval = dice.pick(&[30.0, 60.0]);
    story
}

fn rarely_errors(dice: &mut Dice) -> Case {
    let story = rarely(dice);
    many_errors(dice, story)
}

/// The new version's histograms have no bound but infinity.
fn without_bounds(dice: &mut Dice) -> Story {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    story.dialect.bounds[1] = &[];
    story
}

fn no_bounds(dice: &mut Dice) -> Case {
    must_not(without_bounds(dice))
}

fn no_bounds_errors(dice: &mut Dice) -> Case {
    let story = without_bounds(dice);
    many_errors(dice, story)
}

/// Nothing serves until the new pods are up, which takes minutes and is shorter than the hold.
fn slow_start(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let lasts = dice.between(90.0, 230.0);
    for pod in story.new_pods() {
        let Life { start, .. } = pod.lives[0];
        pod.lives[0].ready = start + lasts;
    }
    story.done_at += lasts;
    must_not(story)
}

/// What a pod still answers when it is told to end fails.
fn as_they_end(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    let (lasts, share) = (dice.between(5.0, 15.0), dice.between(0.3, 1.0));
    let ends: Vec<f64> = story.pods.iter().filter(|pod| pod.version == Version::Old).map(|pod| pod.gone).collect();
    for end in ends {
        story.happen_for(Who::Old, end - lasts, lasts, What::Errors(share / 3.0));
    }
    must_not(story)
}

/// What it depends on comes and goes, for the old version as for the new one.
fn flapping_alike(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Rolling]);
    let mut story = Story::draw(dice, shape);
    let (share, from) = (dice.between(0.2, 0.7), dice.between(0.0, 200.0));
    story.happen(Who::All, from, What::Errors(share)).course = Course::Flap(180.0, 120.0);
    must_not(story)
}

fn old_killed(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Canary, Shape::Rolling]);
    let mut story = Story::draw(dice, shape);
    story.dialect.kube = true;
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::Old) {
        let at = dice.between(200.0, pod.gone - 30.0);
        pod.ooms.push(at);
        pod.restart(at, 3.0, 6.0);
    }
    must_not(story)
}

fn many_pods(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    (plan.pods, plan.gap) = (20, dice.between(12.0, 25.0));
    let mut story = Story::of(dice, plan);
    story.interval = 15.0;
    many_errors(dice, story)
}
