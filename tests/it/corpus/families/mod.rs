//! The families: each draws one case of its kind, and says what is right for it.

mod attribution;
mod both;
mod crashes;
mod edge;
mod errors;
mod hardly;
mod latency;
mod odd;
mod overlap;
mod pausing;
mod quiet;
mod restless;
mod rising;
mod sight;
mod targets;
mod time;
mod trickle;
mod uneven;

pub(super) use quiet::at_random;

use super::deployment::{Plan, Shape, Story};
use super::effect::{Course, Loss, What, Who};
use super::noise::Dice;
use super::truth::Right;

/// One recorded deployment and what is right for it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The workload that is judged, and others beside it.
    pub(super) stories: Vec<Story>,
    pub(super) right: Right,
}

/// A family's name, and how one of it is drawn.
pub(super) type Family = (&'static str, fn(&mut Dice) -> Case);

pub(super) fn all() -> Vec<Family> {
    [
        quiet::FAMILIES,
        errors::FAMILIES,
        latency::FAMILIES,
        crashes::FAMILIES,
        targets::FAMILIES,
        sight::FAMILIES,
        attribution::FAMILIES,
        time::FAMILIES,
        hardly::FAMILIES,
        odd::FAMILIES,
        overlap::FAMILIES,
        both::FAMILIES,
        edge::FAMILIES,
        rising::FAMILIES,
        restless::FAMILIES,
        pausing::FAMILIES,
        trickle::FAMILIES,
        uneven::FAMILIES,
    ]
    .concat()
}

fn must(story: Story, from: f64) -> Case {
    Case { stories: vec![story], right: Right::Must(from) }
}

fn must_not(story: Story) -> Case {
    Case { stories: vec![story], right: Right::MustNot }
}

fn either(story: Story, from: f64) -> Case {
    Case { stories: vec![story], right: Right::Either(from) }
}

/// A rolling update that goes slowly over many pods, so that both versions serve for long.
fn slow_rolling(dice: &mut Dice) -> Story {
    let mut plan = Plan::draw(dice, Shape::Rolling);
    plan.pods = dice.whole(8, 10);
    plan.gap = dice.between(75.0, 100.0);
    Story::of(dice, plan)
}

/// Both versions serve for long.
fn side_by_side(dice: &mut Dice) -> Story {
    if dice.chance(0.5) { Story::draw(dice, Shape::Canary) } else { slow_rolling(dice) }
}
