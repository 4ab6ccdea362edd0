//! The trail of the relay: after the log has lost events, the relay resumes at the newest of these points that the log still has.

use crate::ports::event_store::{LogPoint, Position};

/// The maximum number of points.
const MAX_POINTS: usize = 256;

/// Published points of the log, oldest first: all recent ones, and older ones ever more sparsely.
#[derive(Debug, Default)]
pub(super) struct Trail(Vec<LogPoint>);

impl Trail {
    /// Adds the newest point.
    pub(super) fn push(&mut self, point: LogPoint) {
        if self.0.last().is_some_and(|last| last.position >= point.position) {
            self.cut(point.position);
        }
        self.0.push(point);
        if self.0.len() > MAX_POINTS {
            // Half of the older half is removed; repeated thinning keeps the whole log covered.
            let newer = self.0.split_off(MAX_POINTS / 2);
            self.0 = self.0.iter().copied().step_by(2).chain(newer).collect();
        }
    }

    /// Removes the points at and after `position`.
    pub(super) fn cut(&mut self, position: Position) {
        self.0.retain(|point| point.position < position);
    }

    /// The points, newest first.
    pub(super) fn newest_first(&self) -> Vec<LogPoint> {
        self.0.iter().rev().copied().collect()
    }

    /// The point at `position`, without a fingerprint if it is not in the trail.
    pub(super) fn at(&self, position: Position) -> LogPoint {
        let found = self.0.binary_search_by_key(&position, |point| point.position);
        found.ok().and_then(|index| self.0.get(index)).copied().unwrap_or_else(|| position.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(position: u64) -> LogPoint {
        LogPoint { position: Position(position), fingerprint: Some(1) }
    }

    #[test]
    fn the_newest_points_are_all_there_and_the_older_ones_reach_back_to_the_beginning() {
        let mut trail = Trail::default();
        for position in 1..=100_000 {
            trail.push(point(position));
        }
        let points = trail.newest_first();
        assert!(points.len() <= MAX_POINTS, "{}", points.len());
        assert_eq!(points[..100], (99_901..=100_000).rev().map(point).collect::<Vec<_>>());
        assert_eq!(points.last(), Some(&point(1)));
        assert_eq!(trail.at(Position(100_000)), point(100_000));
        assert_eq!(trail.at(Position(100_001)), Position(100_001).into());
    }

    #[test]
    fn a_repeated_point_replaces_the_later_ones() {
        let mut trail = Trail::default();
        (1..=5).for_each(|position| trail.push(point(position)));
        trail.push(LogPoint { position: Position(3), fingerprint: Some(2) });
        let positions: Vec<_> =
            trail.newest_first().iter().map(|point| (point.position.0, point.fingerprint)).collect();
        assert_eq!(positions, [(3, Some(2)), (2, Some(1)), (1, Some(1))]);
    }
}
