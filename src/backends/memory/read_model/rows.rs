//! The rows in pieces of memory, by number.

use crate::ports::read_model::RowKey;

/// Rows per piece of memory: growing moves none of them.
pub(super) const PIECE_ROWS: usize = 4_096;

/// All rows, by the number assigned here: 0, 1, 2 …
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<Vec<CompactRow>>);

/// A [`Row`](crate::ports::read_model::Row) with the number of its customer, 56 bytes.
#[derive(Debug)]
pub(super) struct CompactRow {
    pub(super) id: u64,
    pub(super) created_at_micros: i64,
    pub(super) updated_at_micros: i64,
    pub(super) amount_minor: i64,
    pub(super) revision: u64,
    pub(super) customer: u32,
    pub(super) item_count: u32,
    pub(super) currency: [u8; 3],
    pub(super) status: u8,
}

/// The sort order of lists as one number: by time, then by id.
pub(super) const fn sort_key(key: RowKey) -> i128 {
    ((key.created_at_micros as i128) << 64) | key.id as i128
}

impl Rows {
    /// The sort key of a row.
    pub(super) fn key(&self, number: u32) -> i128 {
        let row = self.get(number);
        sort_key(RowKey { created_at_micros: row.created_at_micros, id: row.id })
    }

    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE_ROWS + last.len())
    }

    pub(super) fn get(&self, number: u32) -> &CompactRow {
        &self.0[number as usize / PIECE_ROWS][number as usize % PIECE_ROWS]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut CompactRow {
        &mut self.0[number as usize / PIECE_ROWS][number as usize % PIECE_ROWS]
    }

    /// Adds a row and numbers it; [`Table::check`](super::table::Table::check) has ensured that the number fits.
    pub(super) fn push(&mut self, row: CompactRow) -> u32 {
        let number = self.len();
        match self.0.last_mut() {
            Some(last) if last.len() < PIECE_ROWS => last.push(row),
            _ => {
                let mut piece = Vec::with_capacity(PIECE_ROWS);
                piece.push(row);
                self.0.push(piece);
            }
        }
        number as u32
    }
}
