//! Faults that are not the release's, and those that are though it does not look so.

use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("dependency-down-alike", dependency_alike),
    ("dependency-slow-alike", dependency_slow),
    ("dependency-down-before-direct", |dice| before(dice, Shape::Direct)),
    ("dependency-down-before-rolling", |dice| before(dice, Shape::Rolling)),
    ("dependency-down-as-it-rolls", as_it_rolls),
    ("outage-swells-as-it-rolls", outage_swells),
    ("outage-comes-and-goes-as-it-rolls", outage_comes_and_goes),
    ("dependency-slow-as-it-rolls", slow_as_it_rolls),
    ("one-zone-alike", zone),
    ("slow-before-direct", slow_before),
    ("everyone-is-hit", everyone),
    ("errors-before-and-after", errors_before),
    ("errors-before-and-worse-canary", worse),
    ("old-version-worse", old_worse),
    ("old-version-worse-direct", old_worse_direct),
    ("errors-just-below-and-just-above", just_above),
    ("outages-as-ever-direct", |dice| must_not(outages(dice))),
    ("outages-and-then-worse-direct", outages_and_worse),
    ("retries-of-all", retries_alike),
    ("retries-for-the-new", retries_new),
    ("fault-without-a-rollout", no_rollout),
    ("alone-among-the-well", alone),
    ("outage-alike-as-the-last-pod-goes", last_pod_goes),
    ("many-errors-once-the-last-pod-is-gone", last_pod_gone),
];

/// While both versions serve.
fn dependency_alike(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let from = story.deploy_at + dice.between(30.0, 400.0);
    let (share, lasts) = (dice.between(0.15, 1.0), dice.between(100.0, 400.0));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

fn dependency_slow(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let from = story.deploy_at + dice.between(30.0, 400.0);
    let (share, lasts) = (dice.between(0.1, 0.9), dice.between(100.0, 400.0));
    story.happen_for(Who::All, from, lasts, What::Diverted { share, median: 8.0 });
    must_not(story)
}

/// It began before the rollout and goes on.
fn before(dice: &mut Dice, shape: Shape) -> Case {
    let mut story = Story::draw(dice, shape);
    let from = story.deploy_at - dice.between(150.0, 900.0);
    let share = dice.between(0.15, 0.8);
    let lasts = story.deploy_at - from + dice.between(300.0, 1500.0);
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

/// It begins as the rollout does, and goes on for long after the last pod of the old version is gone.
fn as_it_rolls(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    let from = story.deploy_at + dice.between(-60.0, (story.done_at - story.deploy_at - 125.0).max(0.0));
    let (share, lasts) = (dice.between(0.15, 0.9), dice.between(400.0, 900.0));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

/// When the rollout of pod after pod is under way, with a part of it still to come.
fn while_rolling(dice: &mut Dice, story: &Story) -> f64 {
    story.deploy_at + dice.between(-60.0, (story.done_at - story.deploy_at - 125.0).max(0.0))
}

/// It is never quite over, and worse at times than it was while both served.
fn outage_swells(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    let (from, lasts) = (while_rolling(dice, &story), dice.between(700.0, 1300.0));
    let (share, more) = (dice.between(0.12, 0.3), dice.between(0.2, 0.6));
    let (on, off) = (dice.between(60.0, 200.0), dice.between(60.0, 200.0));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    story.happen_for(Who::All, from, lasts, What::Errors(more));
    if let Some(last) = story.effects.last_mut() {
        last.course = Course::Flap(on, off);
    }
    must_not(story)
}

fn outage_comes_and_goes(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    let (from, lasts) = (while_rolling(dice, &story), dice.between(700.0, 1300.0));
    let (on, off) = (dice.between(120.0, 240.0), dice.between(40.0, 150.0));
    let share = dice.between(0.15, 0.9);
    let outage = story.happen(Who::All, from, What::Errors(share));
    (outage.until, outage.course) = (from + lasts, Course::Flap(on, off));
    must_not(story)
}

fn slow_as_it_rolls(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Rolling);
    let (from, lasts) = (while_rolling(dice, &story), dice.between(400.0, 900.0));
    let share = dice.between(0.1, 0.9);
    story.happen_for(Who::All, from, lasts, What::Diverted { share, median: 8.0 });
    must_not(story)
}

/// One zone of three has a fault, with pods of both versions in it.
fn zone(dice: &mut Dice) -> Case {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    (plan.pods, plan.gap) = (9, dice.between(75.0, 100.0));
    let mut story = Story::of(dice, plan);
    let from = story.deploy_at + plan.gap * dice.between(3.2, 4.0);
    let (share, lasts) = (dice.between(0.2, 1.0), dice.between(120.0, 1000.0));
    story.happen_for(Who::Each(3), from, lasts, What::Errors(share));
    must_not(story)
}

fn slow_before(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let from = story.deploy_at - dice.between(150.0, 900.0);
    let share = dice.between(0.05, 0.8);
    story.happen(Who::All, from, What::Diverted { share, median: 8.0 });
    must_not(story)
}

/// Other workloads without a rollout of their own.
fn neighbours(dice: &mut Dice, story: &mut Story) -> Vec<Story> {
    // A rollout that lies beside the recording would be everyone's.
    (story.dialect.workload, story.dialect.meta) = (Some("api".to_owned()), false);
    let names = ["search", "cart", "users", "mail"];
    let count = dice.whole(3, 4);
    let mut stories = Vec::new();
    for (number, name) in names.into_iter().take(count).enumerate() {
        let mut other = Story::draw(dice, Shape::Direct);
        let end = story.end + 1.0;
        other.end = story.end;
        other.pods.retain(|pod| pod.version == super::super::deployment::Version::Old);
        for pod in &mut other.pods {
            pod.gone = end;
            pod.lives[0].end = end;
            pod.name = pod.name.replacen("api", name, 1);
            pod.address = format!("10.5{number}.{}.7:8080", pod.index);
        }
        other.dialect = story.dialect.clone();
        other.dialect.workload = Some(name.to_owned());
        other.dialect.probe = false;
        other.dialect.kube = false;
        other.interval = story.interval;
        stories.push(other);
    }
    stories
}

/// A fault of what all share begins after a rollout of one of them, of which only the new version is left.
fn everyone(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let mut others = neighbours(dice, &mut story);
    let from = story.later(dice);
    let lasts = dice.between(400.0, 900.0);
    let share = dice.between(0.2, 0.9);
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    for other in &mut others {
        let (late, share) = (dice.between(0.0, 20.0), dice.between(0.2, 0.9));
        other.happen_for(Who::All, from + late, lasts, What::Errors(share));
    }
    let mut stories = vec![story];
    stories.append(&mut others);
    Case { stories, right: Right::MustNot }
}

/// Only the one with the rollout fails.
fn alone(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let mut others = neighbours(dice, &mut story);
    let from = story.later(dice);
    let share = dice.between(0.25, 0.9);
    story.happen(Who::New, from, What::Errors(share));
    let mut stories = vec![story];
    stories.append(&mut others);
    Case { stories, right: Right::Must(from) }
}

/// As bad as ever.
fn errors_before(dice: &mut Dice) -> Case {
    let shape = dice.pick(&super::super::deployment::SHAPES);
    let mut story = Story::draw(dice, shape);
    story.errors = dice.between(0.11, 0.3);
    story.unrest[1] = 0.1;
    must_not(story)
}

fn worse(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    story.errors = dice.between(0.02, 0.05);
    let (share, from) = (dice.between(0.1, 0.3), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

fn old_worse(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let (old, new) = (dice.between(0.2, 0.5), dice.between(0.11, 0.16));
    story.happen(Who::Old, 0.0, What::Errors(old));
    story.happen(Who::New, 0.0, What::Errors(new));
    must_not(story)
}

fn old_worse_direct(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (old, new) = (dice.between(0.25, 0.6), dice.between(0.11, 0.2));
    story.happen(Who::Old, 0.0, What::Errors(old));
    story.happen(Who::New, 0.0, What::Errors(new));
    must_not(story)
}

/// The old version hardly within the threshold and the new one hardly beyond it.
fn just_above(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Direct, Shape::Rolling]);
    let mut story = Story::draw(dice, shape);
    (story.errors, story.rate) = (dice.between(0.09, 0.097), dice.between(100.0, 250.0));
    story.unrest[1] = 0.01;
    let more = dice.between(0.008, 0.014);
    story.happen(Who::New, 0.0, What::Errors(more));
    must_not(story)
}

/// Something that all depend on fails now and then, for some minutes, before the rollout and after it.
fn outages(dice: &mut Dice) -> Story {
    let mut plan = Plan::draw(dice, Shape::Direct);
    (plan.before, plan.after) = (dice.between(2000.0, 2300.0), dice.between(2000.0, 2400.0));
    let mut story = Story::of(dice, plan);
    let (on, off) = (dice.between(330.0, 420.0), dice.between(330.0, 450.0));
    // None of them is under way at the rollout.
    let next = story.deploy_at + dice.between(90.0, off - 90.0);
    let share = dice.between(0.15, 0.4);
    let begin = next - 3.0 * (on + off);
    story.happen(Who::All, begin, What::Errors(share)).course = Course::Flap(on, off);
    story
}

fn outages_and_worse(dice: &mut Dice) -> Case {
    let mut story = outages(dice);
    let end = story.deploy_at;
    story.effects.iter_mut().for_each(|effect| effect.until = end);
    // Long enough after the last one to be no part of it.
    let (share, from) = (dice.between(0.7, 1.0), end + dice.between(300.0, 500.0));
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}

/// What fails is asked again, which makes three times the traffic.
fn retries_alike(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let from = story.deploy_at + dice.between(30.0, 400.0);
    let (share, lasts) = (dice.between(0.2, 0.7), dice.between(150.0, 500.0));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    story.happen_for(Who::All, from, lasts, What::Traffic(1.0 + 2.0 * share));
    must_not(story)
}

fn retries_new(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let (share, from) = (dice.between(0.3, 0.8), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    story.happen(Who::All, from + 20.0, What::Traffic(1.0 + share)).course = Course::Ramp(120.0);
    must(story, from)
}

fn no_rollout(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let end = story.end + 1.0;
    story.pods.retain(|pod| pod.version == super::super::deployment::Version::Old);
    for pod in &mut story.pods {
        pod.gone = end;
        pod.lives[0].end = end;
    }
    let share = dice.between(0.3, 1.0);
    story.happen(Who::All, story.deploy_at, What::Errors(share));
    must_not(story)
}

fn one_by_one(dice: &mut Dice) -> Story {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    plan.gap = dice.between(35.0, 60.0);
    Story::of(dice, plan)
}

/// What all depend on fails, and the last pod of the old version is there for two or three looks more.
fn last_pod_goes(dice: &mut Dice) -> Case {
    let mut story = one_by_one(dice);
    let (before, lasts) = (story.interval * dice.between(2.2, 3.5), dice.between(400.0, 900.0));
    let (from, share) = (story.done_at - before, dice.between(0.3, 0.8));
    story.happen_for(Who::All, from, lasts, What::Errors(share));
    must_not(story)
}

/// The new version fails, from when the last pod of the old one is gone.
fn last_pod_gone(dice: &mut Dice) -> Case {
    let mut story = one_by_one(dice);
    let (from, share) = (story.done_at + dice.between(1.0, 40.0), dice.between(0.3, 0.8));
    story.happen(Who::New, from, What::Errors(share));
    must(story, from)
}
