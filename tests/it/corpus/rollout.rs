//! How pods come and go in each shape of a rollout.

use super::deployment::{Life, Plan, Pod, Shape, Split, Version};
use super::noise::Dice;

/// Letters of which generated names are made.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Seconds that the old version's pods were there before the recording begins.
const OLD_AGE: f64 = 40_000.0;

/// The pods of both versions, how traffic moves, and when only the new version is left.
pub(super) fn roll(dice: &mut Dice, plan: Plan) -> (Vec<Pod>, Split, f64) {
    let hashes = [letters(dice, 10), letters(dice, 10)];
    let (next, startup) = (dice.whole(2, 90), dice.between(5.0, 20.0));
    let mut crew = Crew { plan, hashes, next, startup, end: plan.before + plan.after, dice, pods: Vec::new() };
    let (split, done) = match plan.shape {
        Shape::Direct => crew.direct(),
        Shape::Rolling => crew.rolling(),
        Shape::Canary => crew.canary(),
        Shape::BlueGreen => crew.blue_green(),
    };
    (crew.pods, split, done)
}

fn letters(dice: &mut Dice, count: usize) -> String {
    (0..count).map(|_| char::from(dice.pick(LETTERS))).collect()
}

struct Crew<'d> {
    plan: Plan,
    hashes: [String; 2],
    next: usize,
    /// Seconds until a pod is ready.
    startup: f64,
    end: f64,
    dice: &'d mut Dice,
    pods: Vec<Pod>,
}

impl Crew<'_> {
    fn direct(&mut self) -> (Split, f64) {
        let is_host = self.dice.chance(0.3);
        let (count, mut done) = (self.plan.pods, self.plan.before);
        for index in 0..count {
            let gone = self.plan.before + self.dice.between(0.0, 2.0);
            self.old(index, gone);
        }
        for index in 0..count {
            let ready = self.new_within(index, self.plan.before, 2.0, 6.0);
            done = done.max(ready);
            if is_host {
                let address = self.pods[index].address.clone();
                self.pods[count + index].address = address;
            }
        }
        (Split::ByPods, done)
    }

    fn rolling(&mut self) -> (Split, f64) {
        let mut done = self.plan.before;
        for index in 0..self.plan.pods {
            let ready = self.new_within(index, self.plan.before + self.plan.gap * index as f64, 0.5, 3.0);
            let gone = ready + self.dice.between(1.0, 5.0);
            self.old(index, gone);
            done = done.max(gone);
        }
        (Split::ByPods, done)
    }

    fn canary(&mut self) -> (Split, f64) {
        let few = (self.plan.pods / 4).max(1);
        let mut from = self.plan.before;
        for index in 0..few {
            from = from.max(self.new_within(index, self.plan.before, 0.5, 3.0));
        }
        let until = from + self.plan.bake;
        let share = self.dice.pick(&[0.1, 0.2, 0.3, 0.5]);
        let gap = self.plan.gap.min(30.0);
        let mut done = until;
        for index in 0..self.plan.pods {
            let gone = until + gap * (index + 1) as f64;
            if index >= few && gone < self.end {
                self.new_within(index, gone - gap, 0.0, 1.0);
            }
            self.old(index, gone.min(self.end + 1.0));
            done = done.max(gone);
        }
        (Split::Canary { from, until, share }, done)
    }

    fn blue_green(&mut self) -> (Split, f64) {
        let mut ready = self.plan.before;
        for index in 0..self.plan.pods {
            ready = ready.max(self.new_within(index, self.plan.before, 0.5, 3.0));
        }
        let switch = ready + self.dice.between(30.0, 120.0);
        let keep = self.dice.between(200.0, 900.0);
        for index in 0..self.plan.pods {
            self.old(index, (switch + keep).min(self.end + 1.0));
        }
        (Split::Switch(switch), switch)
    }

    fn old(&mut self, index: usize, gone: f64) {
        let start = -OLD_AGE - 100.0 * index as f64;
        self.add(Version::Old, index, Life { start, ready: start, end: gone });
    }

    /// A new pod that starts so long after `at`; when it is ready.
    fn new_within(&mut self, index: usize, at: f64, low: f64, high: f64) -> f64 {
        let start = at + self.dice.between(low, high);
        let ready = start + self.startup * self.dice.between(0.8, 1.3);
        self.add(Version::New, index, Life { start, ready, end: self.end + 1.0 });
        ready
    }

    fn add(&mut self, version: Version, index: usize, life: Life) {
        self.next += self.dice.whole(1, 5);
        let hash = &self.hashes[usize::from(version == Version::New)];
        self.pods.push(Pod {
            version,
            named: None,
            index,
            name: format!("api-{hash}-{}", letters(self.dice, 5)),
            address: format!("10.42.{}.{}:8080", self.next / 200, self.next % 200 + 10),
            created: life.start,
            gone: life.end,
            lives: vec![life],
            unready: f64::INFINITY,
            ooms: Vec::new(),
            past: 0,
            weight: (0.08 * self.dice.normal()).exp(),
            proneness: 1.0,
            bursts: Vec::new(),
            slowness: (0.04 * self.dice.normal()).exp(),
            skew: 0.0,
            every: 1.0,
        });
    }
}
