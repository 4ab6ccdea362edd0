//! A set of rows in the order of their keys, at little more than 4 bytes per row.
//!
//! The numbers of the rows are kept in sorted chunks; the keys are looked up in the rows. Orders arrive nearly in the order of their keys, so chunks
//! are filled from end to end.

use super::rows::Rows;

/// The maximum number of rows in a chunk: few enough that inserting in the middle moves at most 2 KiB.
const CHUNK_ROWS: usize = 512;

/// Numbers of rows, sorted by the keys of the rows.
#[derive(Debug)]
pub(super) enum RowSet {
    /// Enough for most customers: no list of chunks.
    One(Vec<u32>),
    /// Chunks that are not empty.
    Many(Vec<Vec<u32>>),
}

/// A position in a set: a chunk and an index in it, or the number of chunks and 0.
type RowIndex = (usize, usize);

impl RowSet {
    pub(super) const fn new() -> Self {
        Self::One(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks().iter().all(Vec::is_empty)
    }

    /// Adds `row`, which must not be present.
    pub(super) fn insert(&mut self, row: u32, rows: &Rows) {
        let (mut chunk, mut index) = self.locate(rows.key(row), rows);
        if chunk > 0 && chunk == self.chunks().len() {
            // After all keys: at the end of the last chunk.
            chunk -= 1;
            index = self.chunks()[chunk].len();
        }
        let last = chunk + 1 == self.chunks().len();
        match self.chunk_mut(chunk) {
            None => *self = Self::One(vec![row]),
            Some(rows) if rows.len() < CHUNK_ROWS => rows.insert(index, row),
            Some(rows) if last && index == rows.len() => self.split_chunks().push(vec![row]),
            Some(rows) => {
                let mut tail = rows.split_off(CHUNK_ROWS / 2);
                match index.checked_sub(CHUNK_ROWS / 2) {
                    Some(index) => tail.insert(index, row),
                    None => rows.insert(index, row),
                }
                self.split_chunks().insert(chunk + 1, tail);
            }
        }
    }

    /// Removes `row`; its key must be the one that it was inserted with.
    pub(super) fn remove(&mut self, row: u32, rows: &Rows) {
        let (chunk, index) = self.locate(rows.key(row), rows);
        let Some(rows) = self.chunk_mut(chunk).filter(|rows| rows.get(index) == Some(&row)) else { return };
        rows.remove(index);
        // A set that empties (orders not yet paid) frees its memory, rarely enough to cost nothing.
        if rows.len() < rows.capacity() / 4 {
            rows.shrink_to(rows.len() * 2);
        }
        let empty = rows.is_empty();
        if let Self::Many(chunks) = self
            && empty
        {
            chunks.remove(chunk);
        }
    }

    /// The rows with keys from `first` to `last`, both included.
    pub(super) fn range<'a>(&'a self, first: i128, last: i128, rows: &'a Rows) -> Range<'a> {
        let front = self.locate(first, rows);
        let back = last.checked_add(1).map_or((self.chunks().len(), 0), |end| self.locate(end, rows));
        Range { chunks: self.chunks(), rows, front, back: back.max(front) }
    }

    fn chunks(&self) -> &[Vec<u32>] {
        match self {
            Self::One(chunk) if chunk.is_empty() => &[],
            Self::One(chunk) => std::slice::from_ref(chunk),
            Self::Many(chunks) => chunks,
        }
    }

    fn chunk_mut(&mut self, index: usize) -> Option<&mut Vec<u32>> {
        match self {
            Self::One(chunk) => Some(chunk).filter(|chunk| index == 0 && !chunk.is_empty()),
            Self::Many(chunks) => chunks.get_mut(index),
        }
    }

    fn split_chunks(&mut self) -> &mut Vec<Vec<u32>> {
        if let Self::One(chunk) = self {
            *self = Self::Many(vec![std::mem::take(chunk)]);
        }
        match self {
            Self::Many(chunks) => chunks,
            Self::One(_) => unreachable!("made into many above"),
        }
    }

    /// The position of the first row whose key is not below `key`.
    fn locate(&self, key: i128, rows: &Rows) -> RowIndex {
        let chunks = self.chunks();
        let is_below = |chunk: &Vec<u32>| chunk.last().is_none_or(|&row| rows.key(row) < key);
        // Most changes are near the end: search there first, in growing steps.
        let (mut start, mut end, mut step) = (0, chunks.len(), 1);
        while start < end {
            let probe = end.saturating_sub(step).max(start);
            if is_below(&chunks[probe]) {
                start = probe + 1;
                break;
            }
            end = probe;
            step *= 2;
        }
        let chunk = start + chunks[start..end].partition_point(is_below);
        let index = chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(|&row| rows.key(row) < key));
        (chunk, index)
    }
}

/// Some rows of a set, from either end.
#[derive(Debug)]
pub(super) struct Range<'a> {
    chunks: &'a [Vec<u32>],
    rows: &'a Rows,
    front: RowIndex,
    back: RowIndex,
}

impl Iterator for Range<'_> {
    /// The key of a row and its number.
    type Item = (i128, u32);

    fn next(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (chunk, index) = self.front;
        let row = self.chunks[chunk][index];
        self.front = if index + 1 < self.chunks[chunk].len() { (chunk, index + 1) } else { (chunk + 1, 0) };
        Some((self.rows.key(row), row))
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (chunk, index) = self.back;
        self.back = if index > 0 { (chunk, index - 1) } else { (chunk - 1, self.chunks[chunk - 1].len() - 1) };
        let row = self.chunks[self.back.0][self.back.1];
        Some((self.rows.key(row), row))
    }
}
