//! What happens to a deployment, to whom, and how it comes and goes.

use super::deployment::{Pod, Version};

/// Whom it hits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Who {
    All,
    Old,
    New,
    /// One pod of the new version, by the order in which they came.
    NewPod(usize),
    /// Every so manieth pod of the new version.
    NewEach(usize),
    /// Every so manieth pod of both: they share a zone.
    Each(usize),
    /// The new version's pods while they are younger than so many seconds.
    Young(f64),
}

/// How it comes and goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Course {
    Step,
    /// Grows for so many seconds.
    Ramp(f64),
    /// Seconds on, seconds off, and again.
    Flap(f64, f64),
    /// A bell over the whole time.
    Bell,
}

/// What it does.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// So many requests more fail.
    Errors(f64),
    /// The usual errors are multiplied.
    ErrorsTimes(f64),
    /// So many requests a second of the whole fail, however many there are.
    ErrorsEachSecond(f64),
    /// All modes of the latency are multiplied.
    Slower(f64),
    /// A share of requests takes about so many seconds.
    Diverted { share: f64, median: f64 },
    /// The traffic of the whole is multiplied.
    Traffic(f64),
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect {
    pub(super) who: Who,
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) course: Course,
    pub(super) what: What,
}

impl Effect {
    /// Between 0 and 1.
    pub(super) fn strength(&self, t: f64) -> f64 {
        if t < self.from || t >= self.until {
            return 0.0;
        }
        let age = t - self.from;
        match self.course {
            Course::Step => 1.0,
            Course::Ramp(over) => (age / over).min(1.0),
            Course::Flap(on, off) => f64::from(age % (on + off) < on),
            Course::Bell => (std::f64::consts::PI * age / (self.until - self.from)).sin().powi(2),
        }
    }

    /// Whether it is about a pod at a time; a pod of the old version where none is given.
    pub(super) fn is_about(&self, pod: Option<&Pod>, t: f64) -> bool {
        let new = pod.filter(|pod| pod.version == Version::New);
        match self.who {
            Who::All => true,
            Who::Old => new.is_none(),
            Who::New => new.is_some(),
            Who::NewPod(index) => new.is_some_and(|pod| pod.index == index),
            Who::NewEach(nth) => new.is_some_and(|pod| pod.index % nth == nth - 1),
            Who::Each(nth) => pod.is_some_and(|pod| pod.index % nth == nth - 1),
            Who::Young(age) => new.is_some_and(|pod| pod.age(t).is_some_and(|at| at < age)),
        }
    }

    /// Times at which it changes abruptly, up to `end`.
    pub(super) fn edges(&self, end: f64, edges: &mut Vec<f64>) {
        edges.extend([self.from, self.until]);
        if let Course::Flap(on, off) = self.course {
            let mut t = self.from;
            while t < self.until.min(end) {
                edges.extend([t + on, t + on + off]);
                t += on + off;
            }
        }
    }
}

/// What is lost between the page and the recording.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Loss {
    /// Nothing is recorded.
    Gap,
    /// `up` is 0.
    Down,
    /// The page repeats what it said before.
    Frozen,
    /// Every value is NaN.
    Nan,
}

/// A loss, of whom and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) who: Who,
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) loss: Loss,
}
