//! Single pods, old and new alike, fail for a while now and then.

use super::super::deployment::{Burst, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("pods-with-bursts-canary", |dice| must_not(restless(dice, Shape::Canary))),
    ("pods-with-bursts-rolling", |dice| must_not(restless(dice, Shape::Rolling))),
    ("pods-with-bursts-blue-green", |dice| must_not(restless(dice, Shape::BlueGreen))),
    ("pods-with-bursts-one-of-ten", one_of_ten),
    ("pods-with-bursts-many-errors-canary", |dice| worse(dice, Shape::Canary, (0.4, 1.0))),
    ("pods-with-bursts-many-errors-rolling", |dice| worse(dice, Shape::Rolling, (0.4, 1.0))),
    ("pods-with-bursts-some-errors-canary", |dice| worse(dice, Shape::Canary, (0.08, 0.15))),
];

/// Bursts of each pod of 5 % to 20 % for 20 s to 60 s, with 3 to 25 minutes from one to the next.
fn burst(dice: &mut Dice, story: &mut Story) {
    let every = dice.log_between(180.0, 1500.0);
    let end = story.end;
    for pod in &mut story.pods {
        let mut next = pod.created.max(0.0) + every * dice.between(0.0, 1.0);
        while next < end {
            let (lasts, share) = (dice.between(20.0, 60.0), dice.between(0.05, 0.2));
            pod.bursts.push(Burst { from: next, until: next + lasts, what: What::Errors(share) });
            next += lasts + every * dice.between(0.6, 1.4);
        }
    }
}

fn restless(dice: &mut Dice, shape: Shape) -> Story {
    let mut plan = Plan::draw(dice, shape);
    plan.before = dice.between(1500.0, 2400.0);
    if shape == Shape::Rolling {
        (plan.pods, plan.gap) = (dice.whole(6, 10), dice.between(60.0, 100.0));
    }
    let mut story = Story::of(dice, plan);
    (story.rate, story.errors) = (dice.log_between(60.0, 300.0), dice.log_between(0.0005, 0.002));
    burst(dice, &mut story);
    story
}

fn one_of_ten(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Canary);
    (plan.pods, plan.before) = (9, dice.between(1500.0, 2400.0));
    let mut story = Story::of(dice, plan);
    (story.rate, story.errors) = (dice.log_between(100.0, 400.0), dice.log_between(0.0005, 0.002));
    story.pods.retain(|pod| pod.version == Version::Old || pod.index != 1);
    story.split = super::super::deployment::Split::ByPods;
    burst(dice, &mut story);
    must_not(story)
}

fn worse(dice: &mut Dice, shape: Shape, (low, high): (f64, f64)) -> Case {
    let mut story = restless(dice, shape);
    let (share, from) = (dice.between(low, high), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}
