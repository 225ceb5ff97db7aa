//! Rollouts that overlap, are undone, or stop halfway.

use super::super::deployment::{Pod, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("third-release-before-the-second-is-proven", third_well),
    ("third-release-before-the-second-is-proven-many-errors", third_errors),
    ("bad-release-replaced-in-time", replaced),
    ("undone-by-hand-in-time", undone),
    ("restarted-without-a-release", restarted),
    ("traffic-in-steps-canary", |dice| must_not(in_steps(dice))),
    ("traffic-in-steps-some-errors-canary", in_steps_errors),
    ("stopped-halfway", |dice| must_not(halfway(dice))),
    ("stopped-halfway-many-errors", halfway_errors),
    ("five-percent-canary", five_percent),
];

/// The pods of a version, of a release by this name, that come so much later; those of `before` go when they are up.
fn come(dice: &mut Dice, story: &mut Story, version: Version, named: &'static str, at: f64) {
    let first = story.pods.len();
    let end = story.end + 1.0;
    let alive: Vec<Pod> = story.pods.iter().filter(|pod| pod.gone > at).cloned().collect();
    for (number, like) in alive.iter().enumerate() {
        let (start, ready) = (at + dice.between(0.5, 2.0), at + dice.between(6.0, 15.0));
        let life = super::super::deployment::Life { start, ready, end };
        story.pods.push(Pod {
            version,
            named: Some(named),
            index: 3000 + first + number,
            name: format!(
                "api-{}-{}",
                ["9bcd8f7g6h", "5xzw4k7q2v"][usize::from(version == Version::New)],
                &like.name[like.name.len() - 5..]
            ),
            address: format!("10.42.{}.{number}:8080", 90 + usize::from(version == Version::New)),
            created: start,
            gone: end,
            lives: vec![life],
            ooms: Vec::new(),
            ..like.clone()
        });
    }
    for pod in story.pods.iter_mut().take(first).filter(|pod| pod.gone > at) {
        let gone = at + dice.between(0.0, 16.0);
        pod.gone = gone;
        pod.lives.retain(|life| life.start < gone);
        if let Some(last) = pod.lives.last_mut() {
            last.end = gone;
        }
    }
    story.done_at = at + 20.0;
}

/// The second release is well, and the third comes before that could be known.
fn third(dice: &mut Dice) -> Story {
    let mut story = Story::draw(dice, Shape::Direct);
    let third = story.deploy_at + dice.between(60.0, 400.0);
    // The one in between is like the first.
    for pod in story.new_pods() {
        (pod.version, pod.named) = (Version::Old, Some("v41.1"));
    }
    come(dice, &mut story, Version::New, "v42", third);
    (story.deploy_at, story.dialect.meta) = (third, false);
    story
}

fn third_well(dice: &mut Dice) -> Case {
    must_not(third(dice))
}

fn third_errors(dice: &mut Dice) -> Case {
    let mut story = third(dice);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// A bad release that serves alone is replaced by a good one before its hold is over.
fn replaced_by(dice: &mut Dice, name: &'static str) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    let next = story.done_at + dice.between(60.0, 200.0);
    come(dice, &mut story, Version::Old, name, next);
    story.dialect.meta = false;
    must_not(story)
}

fn replaced(dice: &mut Dice) -> Case {
    replaced_by(dice, "v43")
}

fn undone(dice: &mut Dice) -> Case {
    replaced_by(dice, "v41")
}

/// Other pods of the same release, which take a while to find their feet.
fn restarted(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (at, end) = (story.deploy_at, story.end + 1.0);
    story.pods.retain(|pod| pod.version == Version::Old);
    for pod in &mut story.pods {
        (pod.gone, pod.lives[0].end) = (end, end);
    }
    come(dice, &mut story, Version::Old, "v41", at);
    let (lasts, share) = (dice.between(30.0, 400.0), dice.between(0.1, 0.8));
    story.happen_for(Who::All, at + 6.0, lasts, What::Errors(share));
    story.dialect.meta = false;
    must_not(story)
}

/// A canary that gets more and more of the traffic.
fn in_steps(dice: &mut Dice) -> Story {
    let mut story = Story::draw(dice, Shape::Canary);
    if let super::super::deployment::Split::Canary { from, until, .. } = story.split {
        story.split = super::super::deployment::Split::Steps { from, every: (until - from) / 4.0 };
    }
    story
}

fn in_steps_errors(dice: &mut Dice) -> Case {
    let mut story = in_steps(dice);
    let (share, from) = (dice.between(0.02, 0.1), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// A rolling update that goes no further: both versions serve to the end.
fn halfway(dice: &mut Dice) -> Story {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    plan.pods = dice.whole(4, 8);
    let mut story = Story::of(dice, plan);
    let (half, end) = (plan.pods / 2, story.end + 1.0);
    story.pods.retain(|pod| pod.version == Version::Old || pod.index < half);
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::Old && pod.index >= half) {
        (pod.gone, pod.lives[0].end) = (end, end);
    }
    story
}

fn halfway_errors(dice: &mut Dice) -> Case {
    let mut story = halfway(dice);
    let (share, from) = (dice.between(0.05, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// A canary that has a twentieth of the traffic.
fn five_percent(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    if let super::super::deployment::Split::Canary { share, .. } = &mut story.split {
        *share = 0.05;
    }
    must_not(story)
}
