//! Seeded chance: everything random in the corpus comes from here, so that a family and a seed are always the same case.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson, StandardNormal};

/// Seconds between two values of a drift.
const STEP: f64 = 5.0;

/// A seeded source of chance.
#[derive(Debug)]
pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// Of one family and seed. FNV-1a keeps families apart that share a seed.
    pub(super) fn new(family: &str, seed: u64) -> Self {
        let hash = family
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(Xoshiro256PlusPlus::seed_from_u64(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// Evenly on a logarithmic scale.
    pub(super) fn log_between(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// A whole number, both ends included.
    pub(super) fn whole(&mut self, low: usize, high: usize) -> usize {
        self.0.random_range(low..=high)
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.0.random::<f64>() < share
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.whole(0, from.len() - 1)]
    }

    pub(super) fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 { 0 } else { Poisson::new(mean).unwrap().sample(&mut self.0) as u64 }
    }

    pub(super) fn binomial(&mut self, n: u64, share: f64) -> u64 {
        if n == 0 || share <= 0.0 { 0 } else { Binomial::new(n, share.min(1.0)).unwrap().sample(&mut self.0) }
    }

    /// How `n` events fall into classes of these shares.
    pub(super) fn multinomial(&mut self, n: u64, shares: &[f64]) -> Vec<u64> {
        let (mut left, mut rest) = (n, 1.0_f64);
        let mut counts = Vec::with_capacity(shares.len());
        for share in shares {
            let count = if rest <= 1e-12 { left } else { self.binomial(left, share / rest) };
            counts.push(count);
            left -= count;
            rest -= share;
        }
        // What rounding left over belongs to the last class.
        if let Some(last) = counts.last_mut() {
            *last += left;
        }
        counts
    }
}

/// A factor around 1 that wanders: the exponential of a first-order autoregression, with mean 1.
#[derive(Debug)]
pub(super) struct Drift(Vec<f64>);

impl Drift {
    /// `spread` is the standard deviation of the logarithm, `memory` its time constant in seconds.
    pub(super) fn new(dice: &mut Dice, duration: f64, spread: f64, memory: f64) -> Self {
        let keep = (-STEP / memory).exp();
        let fresh = (1.0 - keep * keep).sqrt();
        let mut x = dice.normal();
        let steps = (duration / STEP) as usize + 2;
        let values = (0..steps).map(|_| {
            x = keep * x + fresh * dice.normal();
            (spread * x - spread * spread / 2.0).exp()
        });
        Self(values.collect())
    }

    pub(super) fn at(&self, t: f64) -> f64 {
        let step = ((t / STEP).max(0.0) as usize).min(self.0.len() - 1);
        self.0[step]
    }
}
