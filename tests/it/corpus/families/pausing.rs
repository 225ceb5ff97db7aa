//! Single pods, old and new alike, are slow for a while now and then: a garbage collection, a lock.

use super::super::deployment::{Burst, Split, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("pausing-canary", |dice| must_not(pausing(dice, Shape::Canary))),
    ("pausing-rolling", |dice| must_not(pausing(dice, Shape::Rolling))),
    ("pausing-blue-green", |dice| must_not(pausing(dice, Shape::BlueGreen))),
    ("pausing-one-of-ten", one_of_ten),
    ("pausing-few-requests-canary", few_requests),
    ("pausing-and-slower-canary", |dice| slower(dice, Shape::Canary)),
    ("pausing-and-slower-rolling", |dice| slower(dice, Shape::Rolling)),
    ("pausing-and-too-slow-canary", |dice| worse(dice, (0.2, 0.9), (7.0, 12.0))),
    ("pausing-and-tail-canary", |dice| worse(dice, (0.03, 0.1), (1.5, 3.5))),
    ("pausing-and-slow-now-and-then-canary", now_and_then),
];

/// Pauses of each pod of 20 s to 70 s, with two to ten minutes from one to the next: either all of it is slower, or some of
/// its requests wait.
fn pause(dice: &mut Dice, story: &mut Story) {
    let (every, is_whole) = (dice.log_between(120.0, 600.0), dice.chance(0.5));
    let (low, high) = dice.pick(&[(0.05, 0.2), (0.3, 0.9)]);
    let end = story.end;
    for pod in &mut story.pods {
        let mut next = pod.created.max(0.0) + every * dice.between(0.0, 1.0);
        while next < end {
            let lasts = dice.between(20.0, 70.0);
            let what = if is_whole {
                What::Slower(dice.between(4.0, 15.0))
            } else {
                What::Diverted { share: dice.between(low, high), median: dice.log_between(0.5, 3.0) }
            };
            pod.bursts.push(Burst { from: next, until: next + lasts, what });
            next += lasts + every * dice.between(0.6, 1.4);
        }
    }
}

fn pausing(dice: &mut Dice, shape: Shape) -> Story {
    let mut plan = Plan::draw(dice, shape);
    plan.before = dice.between(1500.0, 2400.0);
    if shape == Shape::Rolling {
        (plan.pods, plan.gap) = (dice.whole(6, 10), dice.between(60.0, 100.0));
    }
    let mut story = Story::of(dice, plan);
    story.rate = dice.log_between(60.0, 300.0);
    pause(dice, &mut story);
    story
}

fn one_of_ten(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Canary);
    (plan.pods, plan.before) = (9, dice.between(1500.0, 2400.0));
    let mut story = Story::of(dice, plan);
    story.rate = dice.log_between(100.0, 400.0);
    story.pods.retain(|pod| pod.version == Version::Old || pod.index != 1);
    story.split = Split::ByPods;
    pause(dice, &mut story);
    must_not(story)
}

fn few_requests(dice: &mut Dice) -> Case {
    let mut story = pausing(dice, Shape::Canary);
    story.rate = dice.log_between(10.0, 40.0);
    must_not(story)
}

fn slower(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = pausing(dice, shape);
    let (factor, from) = (dice.between(3.0, 6.0), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor));
    must(story, from)
}

fn worse(dice: &mut Dice, shares: (f64, f64), medians: (f64, f64)) -> Case {
    let mut story = pausing(dice, Shape::Canary);
    let (share, median, from) = (dice.between(shares.0, shares.1), dice.between(medians.0, medians.1), story.deploy_at);
    story.happen(Who::New, from, What::Diverted { share, median });
    must(story, from)
}

/// The new version is slow for three minutes of every five.
fn now_and_then(dice: &mut Dice) -> Case {
    let mut story = pausing(dice, Shape::Canary);
    let (factor, from) = (dice.between(4.0, 8.0), story.deploy_at);
    story.happen(Who::New, from, What::Slower(factor)).course = Course::Flap(180.0, 120.0);
    must(story, from)
}
