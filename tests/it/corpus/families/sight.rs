//! What the recording lost.

use super::super::latency::DEFAULT_BOUNDS;
use super::*;

pub(super) const FAMILIES: &[Family] = &[
    ("gaps", gaps),
    ("gap-while-many-fail", gap_in_fault),
    ("new-pods-now-and-then-unseen-many-errors-canary", now_and_then),
    ("frozen-pages", |dice| lost(dice, Who::All, Loss::Frozen)),
    ("frozen-pages-of-the-new", |dice| lost(dice, Who::New, Loss::Frozen)),
    ("nothing-but-nan", |dice| lost(dice, Who::All, Loss::Nan)),
    ("nan-of-the-new", |dice| lost(dice, Who::New, Loss::Nan)),
    ("monitoring-gone", |dice| lost(dice, Who::All, Loss::Gap)),
    ("monitoring-down", |dice| lost(dice, Who::All, Loss::Down)),
    ("pages-of-the-new-refuse", refused),
    ("monitoring-gone-while-rolling", gone_while_rolling),
    ("metrics-come-late", late),
    ("renamed-metrics", renamed),
    ("coarser-buckets", |dice| buckets(dice, &[0.1, 1.0, 10.0])),
    ("two-buckets-left", |dice| buckets(dice, &[1.0, 30.0])),
    ("other-bounds", |dice| buckets(dice, &[0.002, 0.02, 0.2, 2.0, 20.0])),
    ("finer-buckets", finer),
    ("half-the-pods-unseen-many-errors", half_seen),
    ("renamed-buckets-many-errors", buckets_errors),
];

fn gaps(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    for _ in 0..dice.whole(2, 6) {
        let (from, lasts) = (dice.between(300.0, story.end - 300.0), dice.between(20.0, 240.0));
        let who = match dice.whole(0, 3) {
            0 => Who::All,
            1 => Who::Old,
            2 => Who::New,
            _ => Who::NewPod(dice.whole(0, 3)),
        };
        story.lose(who, from, lasts, Loss::Gap);
    }
    must_not(story)
}

fn gap_in_fault(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Direct);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    story.lose(Who::All, from + dice.between(60.0, 200.0), 2.5 * story.interval, Loss::Gap);
    must(story, from)
}

/// For longer than what is gone is silent, and nothing else tells that they are there.
fn now_and_then(dice: &mut Dice) -> Case {
    let mut story = Story::draw(dice, Shape::Canary);
    story.dialect.kube = false;
    let (share, from) = (dice.between(0.1, 0.4), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    let unseen = 6.0 * story.interval + dice.between(5.0, 60.0);
    let seen = dice.between(30.0, 60.0).max(3.0 * story.interval);
    let mut at = from + dice.between(10.0, 60.0);
    while at < story.end {
        story.lose(Who::New, at, unseen, Loss::Gap);
        at += unseen + seen;
    }
    must(story, from)
}

fn lost(dice: &mut Dice, who: Who, loss: Loss) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    let from = story.deploy_at + dice.between(30.0, 500.0);
    let lasts = dice.between(180.0, 800.0);
    // The service itself is well, as others can tell.
    (story.dialect.kube, story.dialect.probe) = (true, true);
    story.lose(who, from, lasts, loss);
    must_not(story)
}

/// The pages of the new version can't be read beside those of the old one; the Deployment has all in service.
fn refused(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Canary, Shape::BlueGreen]);
    let mut story = if shape == Shape::Rolling { slow_rolling(dice) } else { Story::draw(dice, shape) };
    (story.dialect.kube, story.dialect.down_while_starting) = (true, true);
    let from = if dice.chance(0.5) { dice.between(60.0, 500.0) } else { 0.0 };
    let lasts = if dice.chance(0.5) { dice.between(300.0, 800.0) } else { f64::INFINITY };
    story.lose(Who::New, story.deploy_at + from, lasts, Loss::Down);
    must_not(story)
}

fn gone_while_rolling(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    let loss = dice.pick(&[Loss::Gap, Loss::Down]);
    let from = story.deploy_at - dice.between(20.0, 90.0);
    (story.dialect.kube, story.dialect.probe) = (true, loss == Loss::Down);
    story.lose(Who::All, from, dice.between(200.0, 900.0), loss);
    must_not(story)
}

/// The new version tells nothing at first.
fn late(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct]);
    let mut story = Story::draw(dice, shape);
    let lasts = dice.between(120.0, 900.0);
    story.lose(Who::New, story.deploy_at, lasts, Loss::Gap);
    must_not(story)
}

fn renamed(dice: &mut Dice) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    story.dialect.prefix[1] = dice.pick(&["http_server", "api", "server"]);
    must_not(story)
}

fn buckets(dice: &mut Dice, bounds: &'static [f64]) -> Case {
    let shape = dice.pick(&[Shape::Rolling, Shape::Direct, Shape::Canary]);
    let mut story = Story::draw(dice, shape);
    // Some requests take longer than the second bound, so that a quantile drawn through a wide bucket looks high.
    let share = dice.between(0.012, 0.05);
    story.latency.divert(share, 1.4, 0.2);
    story.dialect.bounds[1] = bounds;
    must_not(story)
}

fn finer(dice: &mut Dice) -> Case {
    let mut case = buckets(dice, DEFAULT_BOUNDS);
    for story in &mut case.stories {
        story.dialect.bounds[0] = &[0.1, 1.0, 10.0];
    }
    case
}

/// Half of the new pods are never seen; the others show it.
fn half_seen(dice: &mut Dice) -> Case {
    let mut story = side_by_side(dice);
    let (share, from) = (dice.between(0.25, 1.0), story.deploy_at);
    story.happen(Who::New, from, What::Errors(share));
    let count = story.new_pods().count();
    for index in (1..count).step_by(2) {
        story.lose(Who::NewPod(index), 0.0, f64::INFINITY, Loss::Gap);
    }
    must(story, from)
}

fn buckets_errors(dice: &mut Dice) -> Case {
    let mut case = buckets(dice, &[0.1, 1.0, 10.0]);
    let (share, from) = (dice.between(0.25, 1.0), case.stories[0].deploy_at);
    case.stories[0].happen(Who::New, from, What::Errors(share));
    case.right = Right::Must(from);
    case
}
