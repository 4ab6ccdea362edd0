//! The messages of a stream that a consumer has processed.

use std::collections::BTreeMap;

/// Everything up to a floor, and ranges above it. At most as many ranges as there are messages in flight, plus one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AckedRanges {
    floor: u64,
    /// First and last of each range above the floor; none is adjacent to another or to the floor.
    ranges: BTreeMap<u64, u64>,
}

impl AckedRanges {
    /// Everything up to `floor`, inclusive.
    pub(super) fn up_to(floor: u64) -> Self {
        Self { floor, ranges: BTreeMap::new() }
    }

    /// Restores the values of [`AckedRanges::floor`] and [`AckedRanges::ranges`].
    pub(super) fn restored(floor: u64, ranges: &[(u64, u64)]) -> Self {
        let mut acked = Self::up_to(floor);
        ranges.iter().for_each(|&(first, last)| acked.add(first, last));
        acked
    }

    /// All messages up to here are processed.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The processed ranges above the floor.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.ranges.iter().map(|(&first, &last)| (first, last)).collect()
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.ranges.range(..=sequence).next_back().is_some_and(|(_, &last)| sequence <= last)
    }

    /// Adds `first` to `last`, inclusive; nothing if `last` is less.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        if last < first || last <= self.floor {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Ranges that touch or overlap the new one are merged into it.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        if first <= self.floor.saturating_add(1) {
            self.floor = last;
        } else {
            self.ranges.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_behaves_like_a_set_and_merges_adjacent_ranges() {
        let seed = fastrand::u64(..);
        println!("seed: {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let floor = random.u64(0..5);
            let mut acked = AckedRanges::up_to(floor);
            let mut set: BTreeSet<u64> = (0..=floor).collect();
            for _ in 0..40 {
                let first = random.u64(1..60);
                let last = first + random.u64(0..4);
                acked.add(first, last);
                set.extend(first..=last);
                assert!((0..70).all(|sequence| acked.contains(sequence) == set.contains(&sequence)));
                let gaps = (1..70).filter(|at| set.contains(at) && !set.contains(&(at - 1))).count();
                assert_eq!(acked.ranges().len(), gaps);
                assert_eq!(AckedRanges::restored(acked.floor(), &acked.ranges()), acked);
            }
        }
    }
}
