//! Seeded chance for simulations.

/// A generator (splitmix64, Steele et al. 2014): good enough to toss coins with, and the same everywhere.
pub(in crate::domain::health) struct Chance(u64);

impl Chance {
    pub(in crate::domain::health) fn new(seed: u64) -> Self {
        // Seeds that lie one step of the generator apart would give the same numbers, but for the first.
        let mut seeded = Self(seed);
        Self(seeded.draw())
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    pub(in crate::domain::health) fn uniform(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// How many of `all` tosses come out with a chance of `share`; the gaps between rare ones are drawn at once.
    pub(in crate::domain::health) fn binomial(&mut self, all: u32, share: f64) -> f64 {
        if share <= 0.0 {
            return 0.0;
        }
        if share >= 1.0 {
            return f64::from(all);
        }
        if share > 0.5 {
            return f64::from(all) - self.binomial(all, 1.0 - share);
        }
        let (mut hits, mut at) = (0.0, 0.0);
        loop {
            at += ((1.0 - self.uniform()).ln() / (1.0 - share).ln()).floor() + 1.0;
            if at > f64::from(all) {
                return hits;
            }
            hits += 1.0;
        }
    }
}
