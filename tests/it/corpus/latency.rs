//! Latencies as mixtures of log-normal modes, and their shares of a histogram's buckets.

use statrs::function::erf::erfc;

/// The client libraries' default bounds, in seconds.
pub(super) const DEFAULT_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One way in which requests are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) share: f64,
    /// Seconds.
    pub(super) median: f64,
    /// Standard deviation of the logarithm.
    pub(super) sigma: f64,
}

/// How long requests take.
#[derive(Clone, Debug)]
pub(super) struct Latency(pub(super) Vec<Mode>);

impl Latency {
    pub(super) fn one(median: f64, sigma: f64) -> Self {
        Self(vec![Mode { share: 1.0, median, sigma }])
    }

    pub(super) fn slow_down(&mut self, factor: f64) {
        self.0.iter_mut().for_each(|mode| mode.median *= factor);
    }

    /// Sends a share of the requests another way.
    pub(super) fn divert(&mut self, share: f64, median: f64, sigma: f64) {
        self.0.iter_mut().for_each(|mode| mode.share *= 1.0 - share);
        self.0.push(Mode { share, median, sigma });
    }

    /// The share of requests that take longer.
    pub(super) fn above(&self, seconds: f64) -> f64 {
        let tail =
            |mode: &Mode| mode.share * 0.5 * erfc((seconds / mode.median).ln() / mode.sigma / std::f64::consts::SQRT_2);
        self.0.iter().map(tail).sum()
    }

    /// The shares of the buckets with these upper bounds, and of the one above them.
    pub(super) fn shares(&self, bounds: &[f64]) -> Vec<f64> {
        let mut before = 1.0;
        let mut shares: Vec<f64> = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds {
            let above = self.above(*bound);
            shares.push(before - above);
            before = above;
        }
        shares.push(before);
        shares
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.iter().map(|mode| mode.share * mode.median * (mode.sigma * mode.sigma / 2.0).exp()).sum()
    }

    /// By bisection on a logarithmic scale, to a thousandth.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let (mut low, mut high) = (1e-5_f64, 1e4_f64);
        while high / low > 1.001 {
            let middle = (low * high).sqrt();
            if self.above(middle) > 1.0 - share { low = middle } else { high = middle }
        }
        high
    }
}
