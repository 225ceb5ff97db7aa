//! Old pods that are not alike beside a canary: one that had a bad moment, or one that has always been worse.

use super::super::deployment::{Burst, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("one-moment-of-one-old-pod", |dice| must_not(moment(dice))),
    ("one-moment-of-one-old-pod-some-errors", moment_errors),
    ("one-old-pod-always-worse", |dice| must_not(always(dice).0)),
    ("one-old-pod-always-worse-canary-as-bad", as_bad),
    ("one-old-pod-always-worse-some-errors", always_errors),
];

fn canary(dice: &mut Dice, pods: usize) -> Story {
    let mut plan = Plan::draw(dice, Shape::Canary);
    (plan.pods, plan.bake) = (pods, dice.between(1200.0, 1500.0));
    let mut story = Story::of(dice, plan);
    (story.rate, story.errors) = (dice.log_between(60.0, 300.0), dice.log_between(0.001, 0.004));
    story
}

/// All or half of the requests of one old pod fail for 15 s to 40 s, some minutes before the rollout.
fn moment(dice: &mut Dice) -> Story {
    let pods = dice.whole(2, 6);
    let mut story = canary(dice, pods);
    let (from, lasts) = (story.deploy_at - dice.between(150.0, 1000.0), dice.between(15.0, 40.0));
    let burst = Burst { from, until: from + lasts, what: What::Errors(dice.pick(&[0.5, 1.0])) };
    let mut old = story.pods.iter_mut().filter(|pod| pod.version == Version::Old);
    old.next().unwrap().bursts.push(burst);
    story
}

fn moment_errors(dice: &mut Dice) -> Case {
    let mut story = moment(dice);
    let (share, from) = (dice.between(0.06, 0.1), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Twice to three times as many requests of one of the old pods fail as of the others.
fn always(dice: &mut Dice) -> (Story, f64) {
    let (pods, times) = (dice.whole(2, 5), dice.between(2.0, 3.0));
    let mut story = canary(dice, pods);
    let mut old = story.pods.iter_mut().filter(|pod| pod.version == Version::Old);
    old.next().unwrap().proneness = times;
    (story, times)
}

/// The canary is on such a node as well.
fn as_bad(dice: &mut Dice) -> Case {
    let (mut story, times) = always(dice);
    story.new_pods().next().unwrap().proneness = times;
    must_not(story)
}

fn always_errors(dice: &mut Dice) -> Case {
    let (mut story, _) = always(dice);
    let (share, from) = (dice.between(0.06, 0.1), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}
