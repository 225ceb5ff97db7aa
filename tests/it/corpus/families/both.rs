//! Two things at once: a bad release beside something that is not its fault.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("outage-alike-and-bad-itself-canary", outage_and_bad),
    ("outage-as-the-first-pods-come", outage_as_they_come),
    ("old-fault-ends-and-a-new-one-begins", one_after_another),
    ("crowd-and-many-errors-canary", crowd),
    ("restless-and-some-errors-canary", restless),
    ("slow-alike-and-many-errors-canary", slow_and_errors),
    ("gaps-and-many-errors", gaps),
    ("autoscaled-and-many-errors-direct", autoscaled),
];

/// What all depend on is down for a while after the rollout; as it comes back the new version goes on failing.
fn outage_and_bad(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (begin, lasts) = (story.deploy_at + dice.between(20.0, 60.0), dice.between(120.0, 500.0));
    // So much worse that it would show is it only afterwards.
    let (outage, own) = (dice.between(0.7, 0.85), dice.between(0.2, 0.3));
    story.happen_for(Who::All, begin, lasts, What::Errors(outage));
    story.happen(Who::New, begin, What::Errors(own));
    must(story, begin + lasts)
}

/// While the first pods of the new version are still young.
fn outage_as_they_come(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    let (from, lasts) = (story.deploy_at + dice.between(15.0, 70.0), dice.between(60.0, 280.0));
    let share = dice.between(0.15, 1.0);
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

/// A fault from before the rollout is over; a while later the new version begins to fail. It may be that one again.
fn one_after_another(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let before = story.deploy_at - dice.between(200.0, 400.0);
    let lasts = story.deploy_at - before + dice.between(30.0, 150.0);
    let share = dice.between(0.2, 0.6);
    story.happen_for(Who::All, before, lasts, What::Errors(share));
    let (from, share) = (before + lasts + dice.between(120.0, 300.0), dice.between(0.25, 0.9));
    story.happen(Who::New, from, What::Errors(share));
    either(story, from)
}

/// Many come because of what is new, and the new version fails for other reasons than their number.
fn crowd(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let (from, times) = (story.deploy_at, dice.between(3.0, 8.0));
    story.happen(Who::All, from, What::Traffic(times));
    let share = dice.between(0.25, 0.8);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn restless(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    story.errors = dice.between(0.01, 0.02);
    story.unrest = [0.35, 0.4, 0.3, 0.15];
    let (share, from) = (dice.between(0.06, 0.1), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn slow_and_errors(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    let from = story.deploy_at;
    let share = dice.between(0.1, 0.9);
    story.happen(Who::All, from + 20.0, What::Diverted { share, median: 8.0 });
    let share = dice.between(0.2, 0.6);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn gaps(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let from = story.deploy_at;
    for _ in 0..dice.whole(2, 4) {
        let at = from + dice.between(-300.0, 600.0);
        let lasts = dice.between(20.0, 60.0);
        story.lose(dice.pick(&[Who::All, Who::Old, Who::New]), at, lasts, Loss::Gap);
    }
    let share = dice.between(0.25, 0.9);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// More pods come with more traffic, after the rollout and as bad as those before.
fn autoscaled(dice: &mut Dice) -> Case {
    let mut case = super::targets::scaled(dice);
    let story = &mut case.stories[0];
    let (share, from) = (dice.between(0.25, 0.9), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    case.right = Right::Must(from);
    case
}
