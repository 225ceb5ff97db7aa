//! Processes that die, or never come up.

use super::super::deployment::{Life, Version};
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("never-ready-rolling", |dice| never_ready(dice, Shape::Rolling)),
    ("never-ready-canary", |dice| never_ready(dice, Shape::Canary)),
    ("never-ready-direct", |dice| never_ready(dice, Shape::Direct)),
    ("never-ready-pages-answer-direct", never_ready_yet_answers),
    ("none-ready-any-more-direct", none_ready),
    ("leak-killed-rolling", |dice| leak(dice, Shape::Rolling)),
    ("leak-killed-direct", |dice| leak(dice, Shape::Direct)),
    ("killed-once", killed_once),
    ("killed-alike", killed_alike),
    ("killed-elsewhere", killed_elsewhere),
    ("crash-loop-direct", |dice| crash_loop(dice, Shape::Direct)),
    ("crash-loop-rolling", |dice| crash_loop(dice, Shape::Rolling)),
    ("one-of-six-in-a-crash-loop", one_of_six),
    ("restarted-once-each", restarted),
    ("restarts-told-late", told_late),
    ("counters-begin-anew", reset),
];

/// New pods start and never serve. A rolling update stops at the first of them.
fn never_ready(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    (story.dialect.kube, story.dialect.down_while_starting, story.dialect.meta) = (true, true, true);
    stop_at_first(&mut story);
    story.new_pods().for_each(|pod| pod.lives[0].ready = f64::INFINITY);
    let from = story.deploy_at;
    must(story, from)
}

/// The processes run and their pages answer, but no traffic ever goes there.
fn never_ready_yet_answers(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    (story.dialect.kube, story.dialect.meta, story.dialect.probe) = (true, true, false);
    story.new_pods().for_each(|pod| pod.unready = 0.0);
    let from = story.deploy_at;
    must(story, from)
}

fn none_ready(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    (story.dialect.kube, story.dialect.probe) = (true, false);
    let from = story.later(dice);
    story.new_pods().for_each(|pod| pod.unready = from);
    must(story, from)
}

/// Where the first new pod does not come up, the others never start, and the old ones stay.
fn stop_at_first(story: &mut Story) {
    if story.shape == Shape::Direct {
        return;
    }
    let end = story.end + 1.0;
    story.pods.retain(|pod| pod.version == Version::Old || pod.index == 0);
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::Old) {
        pod.gone = end;
        pod.lives.iter_mut().for_each(|life| life.end = end);
    }
    story.done_at = end;
}

/// Each pod grows until it is killed for memory, and again.
fn leak(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    story.dialect.kube = true;
    let (lasts, pause) = (dice.between(200.0, 500.0), dice.between(2.0, 15.0));
    let end = story.end;
    let mut first = f64::INFINITY;
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::New) {
        let mut at = pod.created + lasts * dice.between(0.8, 1.3);
        while at < end {
            first = first.min(at);
            pod.ooms.push(at);
            pod.restart(at, pause, 6.0);
            at += pause + 6.0 + lasts * dice.between(0.8, 1.3);
        }
    }
    must(story, first)
}

fn killed_once(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    story.dialect.kube = true;
    let at = story.later(dice);
    let one = dice.whole(0, story.new_pods().count() - 1);
    if let Some(pod) = story.new_pods().nth(one) {
        pod.ooms.push(at);
        pod.restart(at, 5.0, 6.0);
    }
    either(story, at)
}

/// Both versions are killed for memory, at the same rate.
fn killed_alike(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Canary, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    story.dialect.kube = true;
    let (every, end) = (dice.between(250.0, 450.0), story.end);
    for pod in &mut story.pods {
        let mut at = pod.created.max(0.0) + every * dice.between(0.3, 1.2);
        while at < end.min(pod.gone - 30.0) {
            pod.ooms.push(at);
            pod.restart(at, 3.0, 6.0);
            at += every * dice.between(0.7, 1.3);
        }
    }
    must_not(story)
}

/// Another workload of the same recording is killed, which no label tells apart but the name of the pod.
fn killed_elsewhere(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    (story.dialect.kube, story.dialect.pod_label, story.dialect.exporters_tell) = (true, true, false);
    let at = story.later(dice);
    story.strangers = dice.whole(1, 3);
    story.strangers_killed = at;
    must_not(story)
}

fn loop_from(dice: &mut Dice, pod: &mut super::super::deployment::Pod, from: f64, end: f64, startup: f64) {
    let mut at = from;
    let mut pause = 10.0;
    while at < end {
        pod.restart(at, pause, startup);
        at += pause + startup + dice.between(3.0, 15.0);
        pause = (pause * 2.0_f64).min(300.0);
    }
}

/// As the kubelet restarts: after 10 s, 20 s, 40 s and so on, up to 5 min.
fn crash_loop(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    (story.dialect.kube, story.dialect.meta) = (true, true);
    stop_at_first(&mut story);
    let (end, serves) = (story.end, dice.chance(0.5));
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::New) {
        let startup = if serves { 3.0 } else { f64::INFINITY };
        let Life { start, .. } = pod.lives[0];
        pod.lives[0].ready = start + startup;
        let from = start + dice.between(4.0, 12.0);
        if serves {
            loop_from(dice, pod, from, end, startup);
        } else {
            let mut at = from;
            let mut pause = 10.0;
            while at < end {
                pod.restart(at, pause, startup);
                at += pause + dice.between(4.0, 12.0);
                pause = (pause * 2.0_f64).min(300.0);
            }
        }
    }
    let from = story.deploy_at;
    must(story, from)
}

fn one_of_six(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    plan.pods = 6;
    let mut story = Story::of(dice, plan);
    story.dialect.kube = true;
    let from = story.done_at + dice.between(20.0, 200.0);
    let (end, one) = (story.end, dice.whole(2, 5));
    if let Some(pod) = story.new_pods().nth(one) {
        loop_from(dice, pod, from, end, 4.0);
    }
    either(story, from)
}

/// Each pod restarts once, for reasons of its own.
fn restarted(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    story.dialect.kube = true;
    let (done, end) = (story.done_at, story.end);
    for pod in story.pods.iter_mut().filter(|pod| pod.version == Version::New) {
        let at = dice.between(done + 30.0, end - 120.0);
        pod.restart(at, dice.between(1.0, 4.0), 6.0);
    }
    must_not(story)
}

/// Counters that are first told in the middle, at what they were before anyone looked.
fn told_late(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    story.dialect.kube = true;
    let from = story.done_at + dice.between(30.0, 300.0);
    for pod in &mut story.pods {
        pod.past = dice.whole(1, 6);
    }
    story.exporters_from = from;
    must_not(story)
}

/// Processes begin anew so fast that no look misses them: all their counters start at 0 again.
fn reset(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    story.errors = dice.between(0.005, 0.03);
    let (deploy, end) = (story.deploy_at, story.end);
    for pod in &mut story.pods {
        let at = dice.between(deploy - 300.0, end - 60.0);
        pod.restart(at, 0.1, 0.5);
    }
    must_not(story)
}
