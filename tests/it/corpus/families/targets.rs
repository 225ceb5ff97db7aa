//! One of many, and how targets come and go.

use super::super::deployment::{Life, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("one-bad-pod-of-twenty", bad_pod),
    ("one-slow-pod-of-twenty", slow_pod),
    ("half-the-new-pods-bad", half_bad),
    ("pods-apart-for-good", |dice| must_not(apart_for_good(dice))),
    ("pods-apart-for-good-some-errors", apart_for_good_errors),
    ("pods-restless-by-themselves", by_themselves),
    ("one-of-ten-for-long", |dice| must_not(one_of_ten(dice))),
    ("one-of-ten-for-long-many-errors", one_of_ten_errors),
    ("pods-come-and-go", churn),
    ("scaled-up-and-down", scaled),
    ("clocks-apart", clocks),
    ("clocks-apart-many-errors", clocks_errors),
    ("one-long-connection", lopsided),
];

fn twenty(dice: &mut Dice) -> (Story, usize, f64) {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    (plan.pods, plan.gap) = (20, dice.between(12.0, 25.0));
    let mut story = Story::of(dice, plan);
    story.interval = 15.0;
    story.rate = dice.between(150.0, 400.0);
    // Not among the first: of two new pods one bad one is half of what there is.
    let from = if dice.chance(0.5) { story.deploy_at } else { story.done_at + dice.between(20.0, 300.0) };
    (story, dice.whole(6, 19), from)
}

fn bad_pod(dice: &mut Dice) -> Case {
    let (mut story, index, from) = twenty(dice);
    let share = dice.between(0.5, 1.0);
    story.happen(Who::NewPod(index), from, What::Errors(share));
    must_not(story)
}

fn slow_pod(dice: &mut Dice) -> Case {
    let (mut story, index, from) = twenty(dice);
    story.happen(Who::NewPod(index), from, What::Diverted { share: 0.6, median: 8.0 });
    must_not(story)
}

fn half_bad(dice: &mut Dice) -> Case {
    let mut story = slow_rolling(dice);
    let share = dice.between(0.3, 1.0);
    story.happen(Who::NewEach(2), story.deploy_at, What::Errors(share));
    // The second of them: that one of two is bad may be its own.
    let from = story.new_pods().filter(|pod| pod.index == 3).map(|pod| pod.lives[0].ready).fold(0.0, f64::max);
    must(story, from)
}

/// Of some pods more requests fail than of others, as long as they are there.
fn apart_for_good(dice: &mut Dice) -> Story {
    let mut story = slow_rolling(dice);
    (story.rate, story.errors) = (dice.between(100.0, 300.0), dice.between(0.01, 0.03));
    for pod in &mut story.pods {
        pod.proneness = (0.3 * dice.normal().clamp(-2.0, 2.0)).exp();
    }
    story
}

fn apart_for_good_errors(dice: &mut Dice) -> Case {
    let mut story = apart_for_good(dice);
    let (share, from) = (dice.between(0.06, 0.1), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Each pod has bad minutes of its own.
fn by_themselves(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    (story.rate, story.errors) = (dice.between(100.0, 400.0), dice.between(0.01, 0.03));
    story.unrest[2] = 0.5;
    must_not(story)
}

/// Each pod has as much of the traffic as any other, and for long only one of ten is new.
fn one_of_ten(dice: &mut Dice) -> Story {
    let mut plan = Plan::draw(dice, Shape::Canary);
    plan.pods = 9;
    let mut story = Story::of(dice, plan);
    story.pods.retain(|pod| pod.version == Version::Old || pod.index != 1);
    story.split = super::super::deployment::Split::ByPods;
    story
}

fn one_of_ten_errors(dice: &mut Dice) -> Case {
    let mut story = one_of_ten(dice);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Nodes are drained: pods of both versions are replaced by others of their own version.
pub(super) fn churn(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    let count = story.pods.len();
    for index in 0..count {
        if dice.chance(0.4) {
            replace(dice, &mut story, index);
        }
    }
    must_not(story)
}

fn replace(dice: &mut Dice, story: &mut Story, index: usize) {
    let fresh = story.pods.len();
    let pod = &mut story.pods[index];
    let (from, until) = (pod.created.max(60.0) + 60.0, pod.gone.min(story.end) - 60.0);
    if from >= until {
        return;
    }
    let at = dice.between(from, until);
    let mut next = pod.clone();
    (pod.gone, pod.lives[0].end) = (at, at);
    next.created = at - 15.0;
    next.lives = vec![Life { start: at - 15.0, ready: at - 3.0, end: next.gone }];
    // Past any index that a family speaks of.
    next.index = 1000 + fresh;
    next.name = format!("{}{}", &next.name[..next.name.len() - 2], ["xz", "zx", "vv", "wq"][fresh % 4]);
    next.address = format!("10.42.77.{fresh}:8080");
    story.pods.push(next);
}

/// An autoscaler at work after the rollout.
pub(super) fn scaled(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    let (from, end) = (story.done_at + 60.0, story.end);
    let more: Vec<_> = story.pods.iter().filter(|pod| pod.version == Version::New).cloned().collect();
    for (number, mut pod) in more.into_iter().enumerate() {
        let at = dice.between(from, end - 500.0);
        pod.created = at;
        pod.gone = at + dice.between(200.0, 600.0);
        pod.lives = vec![Life { start: at, ready: at + 8.0, end: pod.gone }];
        pod.index = 2000 + number;
        pod.name = format!("{}{}", &pod.name[..pod.name.len() - 2], ["xw", "qz", "vk", "wk"][number % 4]);
        pod.address = format!("10.42.78.{number}:8080");
        story.pods.push(pod);
    }
    let (from, lasts) = (story.done_at + 60.0, story.end - story.done_at - 100.0);
    let bell = story.happen(Who::All, from, What::Traffic(1.6));
    (bell.until, bell.course) = (from + lasts, Course::Bell);
    must_not(story)
}

fn apart(dice: &mut Dice, story: &mut Story) {
    let most = dice.between(3.0, 25.0);
    for pod in &mut story.pods {
        pod.skew = dice.between(-most, most);
    }
}

fn clocks(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    apart(dice, &mut story);
    must_not(story)
}

fn clocks_errors(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    apart(dice, &mut story);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// Pods that get very different parts of the traffic.
fn lopsided(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    for pod in &mut story.pods {
        pod.weight = dice.log_between(0.1, 3.0);
    }
    must_not(story)
}
