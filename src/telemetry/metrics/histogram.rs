//! Histograms with fixed buckets: a record costs two atomic additions and no memory.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// One series.
#[derive(Debug)]
pub(super) struct Buckets {
    /// The upper bounds, ascending; there is one more bucket above the last bound.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// The sum, in parts of the unit.
    sum: AtomicU64,
    parts: f64,
}

/// The counts of a series.
#[derive(Debug)]
pub(super) struct Counted {
    /// The number of records up to each bound.
    pub up_to: Vec<(f64, u64)>,
    pub count: u64,
    pub sum: f64,
}

impl Buckets {
    /// Empty buckets with these `bounds`; the unit has this many `parts`, to which the sum is rounded.
    pub fn new(bounds: &'static [f64], parts: f64) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0), parts }
    }

    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub fn counted(&self) -> Counted {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        for (place, bucket) in self.counts.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(place) {
                up_to.push((*bound, count));
            }
        }
        Counted { up_to, count, sum: self.sum.load(Ordering::Relaxed) as f64 / self.parts }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; no value is negative")]
        let parts = (value * self.parts) as u64;
        if let Some(bucket) = self.counts.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(parts, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_of_the_first_bound_that_is_not_less() {
        let buckets = Buckets::new(&[0.5, 1.0, 2.0], 1e9);
        for value in [0.0, 0.5, 0.75, 1.0, 1.5, 2.5, 100.0] {
            buckets.record(value);
        }
        let counted = buckets.counted();
        assert_eq!(counted.up_to, [(0.5, 2), (1.0, 4), (2.0, 5)]);
        assert_eq!(counted.count, 7);
        assert!((counted.sum - 106.25).abs() < 1e-6, "{}", counted.sum);
    }
}
