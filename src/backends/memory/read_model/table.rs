//! The rows and all their indexes. Not atomic: the read model locks it and checks a batch before applying it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::BuildHasherDefault,
    sync::Arc,
};

use super::{
    super::numbers::{NumberHasher, NumberMap, SHARDS, shard},
    row_set::RowSet,
    rows::{CompactRow, PIECE_ROWS, Rows},
};
use crate::ports::read_model::{LogCheckpoint, ReadModelError, Row, RowChange, Totals};

#[derive(Debug)]
pub(super) struct Table {
    pub(super) checkpoint: Option<LogCheckpoint>,
    pub(super) rows: Rows,
    numbers: Box<[NumberMap<u32>]>,
    customers: Vec<Customer>,
    customer_numbers: HashMap<Arc<str>, u32>,
    by_status: ByStatus,
    totals: Groups,
}

/// The count and the sum of the rows of each status and currency.
type Groups = BTreeMap<(u8, [u8; 3]), (u64, i128)>;

#[derive(Debug)]
struct Customer {
    name: Arc<str>,
    by_status: ByStatus,
}

/// Rows separated by status, for the few statuses that exist.
#[derive(Debug, Default)]
struct ByStatus(Vec<(u8, RowSet)>);

impl Table {
    pub(super) fn new() -> Self {
        Self {
            checkpoint: None,
            rows: Rows::default(),
            numbers: (0..SHARDS).map(|_| NumberMap::default()).collect(),
            customers: Vec::new(),
            customer_numbers: HashMap::new(),
            by_status: ByStatus::default(),
            totals: Groups::new(),
        }
    }

    /// Applies a batch as a whole or not at all.
    pub(super) fn apply(&mut self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        let moved = checkpoint.following(self.checkpoint)?;
        self.check(&changes)?;
        changes.into_iter().for_each(|change| self.change(change));
        self.checkpoint = Some(moved);
        Ok(())
    }

    /// Whether freeing it takes long enough to be noticed.
    pub(super) fn is_large(&self) -> bool {
        self.rows.len() > PIECE_ROWS
    }

    /// Refuses a batch that cannot be applied as a whole.
    pub(super) fn check(&self, changes: &[RowChange]) -> Result<(), ReadModelError> {
        let mut inserted: HashSet<u64, BuildHasherDefault<NumberHasher>> = HashSet::default();
        for change in changes {
            match change {
                RowChange::Insert(row) => _ = inserted.insert(row.id),
                RowChange::Update { id, revision, .. } => {
                    if self.number(*id).is_none() && !inserted.contains(id) {
                        return Err(ReadModelError::Corrupt(format!("revision {revision} of {id}, which has no row")));
                    }
                }
            }
        }
        if u32::try_from(self.rows.len() + inserted.len()).is_err() {
            return Err(ReadModelError::Unavailable("the memory read model is full".into()));
        }
        Ok(())
    }

    /// Applies one change of a batch that has been checked.
    fn change(&mut self, change: RowChange) {
        match change {
            RowChange::Insert(row) => self.insert(&row),
            RowChange::Update { id, status, revision, updated_at_micros } => {
                let Some(number) = self.number(id).filter(|&number| self.rows.get(number).revision < revision) else {
                    return;
                };
                self.take_out(number);
                let row = self.rows.get_mut(number);
                (row.status, row.revision, row.updated_at_micros) = (status, revision, updated_at_micros);
                self.put_in(number);
            }
        }
    }

    fn insert(&mut self, row: &Row) {
        let known = self.number(row.id);
        if known.is_some_and(|number| self.rows.get(number).revision >= row.revision) {
            return;
        }
        let compact = CompactRow {
            id: row.id,
            created_at_micros: row.created_at_micros,
            updated_at_micros: row.updated_at_micros,
            amount_minor: row.amount_minor,
            revision: row.revision,
            customer: self.customer_number(&row.customer),
            item_count: row.item_count,
            currency: row.currency,
            status: row.status,
        };
        let number = match known {
            Some(number) => {
                self.take_out(number);
                *self.rows.get_mut(number) = compact;
                number
            }
            None => {
                let number = self.rows.push(compact);
                self.numbers[shard(row.id)].insert(row.id, number);
                number
            }
        };
        self.put_in(number);
    }

    /// Adds a row to all indexes by its status.
    fn put_in(&mut self, number: u32) {
        let row = self.rows.get(number);
        self.by_status.set(row.status).insert(number, &self.rows);
        self.customers[row.customer as usize].by_status.set(row.status).insert(number, &self.rows);
        let (count, amount) = self.totals.entry((row.status, row.currency)).or_default();
        *count += 1;
        *amount += i128::from(row.amount_minor);
    }

    fn take_out(&mut self, number: u32) {
        let row = self.rows.get(number);
        self.by_status.remove(row.status, number, &self.rows);
        self.customers[row.customer as usize].by_status.remove(row.status, number, &self.rows);
        let group = (row.status, row.currency);
        if let Some((count, amount)) = self.totals.get_mut(&group) {
            *count -= 1;
            *amount -= i128::from(row.amount_minor);
            if *count == 0 {
                self.totals.remove(&group);
            }
        }
    }

    fn number(&self, id: u64) -> Option<u32> {
        self.numbers[shard(id)].get(&id).copied()
    }

    /// There are no more customers than rows, so their numbers fit as well.
    fn customer_number(&mut self, name: &Arc<str>) -> u32 {
        if let Some(&number) = self.customer_numbers.get(name) {
            return number;
        }
        let number = self.customers.len() as u32;
        self.customers.push(Customer { name: Arc::clone(name), by_status: ByStatus::default() });
        self.customer_numbers.insert(Arc::clone(name), number);
        number
    }

    /// The sets that together hold the rows of `customer` and `status`, each row once.
    pub(super) fn sets(&self, customer: Option<&str>, status: Option<u8>) -> impl Iterator<Item = &RowSet> {
        let by_status = match customer {
            None => Some(&self.by_status),
            Some(name) => self.customer_numbers.get(name).map(|&number| &self.customers[number as usize].by_status),
        };
        let sets = by_status.map(|sets| sets.0.as_slice()).unwrap_or_default();
        sets.iter().filter(move |(of, _)| status.is_none_or(|status| *of == status)).map(|(_, set)| set)
    }

    pub(super) fn row(&self, number: u32) -> Row {
        let row = self.rows.get(number);
        Row {
            id: row.id,
            customer: Arc::clone(&self.customers[row.customer as usize].name),
            status: row.status,
            created_at_micros: row.created_at_micros,
            updated_at_micros: row.updated_at_micros,
            amount_minor: row.amount_minor,
            currency: row.currency,
            item_count: row.item_count,
            revision: row.revision,
        }
    }

    pub(super) fn totals(&self) -> Vec<Totals> {
        to_totals(&self.totals)
    }

    /// The totals of one customer, from its rows.
    pub(super) fn customer_totals(&self, customer: &str) -> Vec<Totals> {
        let mut groups = Groups::new();
        for (_, number) in self.sets(Some(customer), None).flat_map(|set| set.range(i128::MIN, i128::MAX, &self.rows)) {
            let row = self.rows.get(number);
            let (count, amount) = groups.entry((row.status, row.currency)).or_default();
            *count += 1;
            *amount += i128::from(row.amount_minor);
        }
        to_totals(&groups)
    }
}

fn to_totals(groups: &Groups) -> Vec<Totals> {
    let groups = groups.iter();
    groups
        .map(|(&(status, currency), &(count, amount_minor))| Totals { status, currency, count, amount_minor })
        .collect()
}

impl ByStatus {
    fn set(&mut self, status: u8) -> &mut RowSet {
        let index = self.0.iter().position(|(of, _)| *of == status).unwrap_or_else(|| {
            // One by one: most customers never have orders of all statuses.
            self.0.reserve_exact(1);
            self.0.push((status, RowSet::new()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    fn remove(&mut self, status: u8, number: u32, rows: &Rows) {
        let Some(index) = self.0.iter().position(|(of, _)| *of == status) else { return };
        self.0[index].1.remove(number, rows);
        if self.0[index].1.is_empty() {
            self.0.swap_remove(index);
        }
    }
}
