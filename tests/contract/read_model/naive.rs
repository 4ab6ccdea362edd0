//! A read model that is too simple to be wrong, and queries for it.

use super::*;

#[derive(Default)]
pub struct NaiveModel(BTreeMap<u64, Row>);

impl NaiveModel {
    /// Whether every update in `changes` has its row, stored or inserted before it.
    pub fn accepts(&self, changes: &[RowChange]) -> bool {
        let mut known: HashSet<u64> = self.0.keys().copied().collect();
        changes.iter().all(|change| match change {
            RowChange::Insert(row) => {
                known.insert(row.id);
                true
            }
            RowChange::Update { id, .. } => known.contains(id),
        })
    }

    pub fn apply(&mut self, changes: &[RowChange]) {
        for change in changes {
            match change {
                RowChange::Insert(new) => {
                    if self.0.get(&new.id).is_none_or(|row| row.revision < new.revision) {
                        self.0.insert(new.id, new.clone());
                    }
                }
                RowChange::Update { id, status, revision, updated_at_micros } => {
                    let row = self.0.get_mut(id).unwrap();
                    if row.revision < *revision {
                        (row.status, row.revision, row.updated_at_micros) = (*status, *revision, *updated_at_micros);
                    }
                }
            }
        }
    }

    pub fn list(&self, filter: &ListFilter, order: ListOrder) -> Vec<Row> {
        let passes = |row: &&Row| {
            filter.customer.as_ref().is_none_or(|customer| *customer == row.customer)
                && filter.status.is_none_or(|status| status == row.status)
                && filter.created_from_micros.is_none_or(|from| row.created_at_micros >= from)
                && filter.created_to_micros.is_none_or(|to| row.created_at_micros < to)
        };
        let mut rows: Vec<_> = self.0.values().filter(passes).cloned().collect();
        rows.sort_by_key(Row::key);
        if order == ListOrder::NewestFirst {
            rows.reverse();
        }
        rows
    }

    pub fn page(&self, query: &ListQuery) -> Page {
        let mut rows = self.list(&query.filter, query.order);
        rows.retain(|row| {
            query.after.is_none_or(|after| match query.order {
                ListOrder::OldestFirst => row.key() > after,
                ListOrder::NewestFirst => row.key() < after,
            })
        });
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let next = rows.last().filter(|_| more).map(Row::key);
        Page { rows, next }
    }

    pub fn totals(&self) -> Vec<Totals> {
        self.totals_of(|_| true)
    }

    pub fn customer_totals(&self, customer: &str) -> Vec<Totals> {
        self.totals_of(|row| &*row.customer == customer)
    }

    fn totals_of(&self, counts: impl Fn(&Row) -> bool) -> Vec<Totals> {
        let mut totals: BTreeMap<(u8, [u8; 3]), (u64, i128)> = BTreeMap::new();
        for row in self.0.values().filter(|row| counts(row)) {
            let (count, amount) = totals.entry((row.status, row.currency)).or_default();
            *count += 1;
            *amount += i128::from(row.amount_minor);
        }
        let totals = totals.into_iter();
        totals
            .map(|((status, currency), (count, amount_minor))| Totals { status, currency, count, amount_minor })
            .collect()
    }

    /// A new row, or another status for one that exists before this batch.
    pub fn random_change(&self, random: &mut fastrand::Rng, customers: &[Arc<str>]) -> RowChange {
        if self.0.is_empty() || random.bool() {
            return RowChange::Insert(Row {
                id: random.u64(..1 << 40),
                customer: Arc::clone(&customers[random.usize(..customers.len())]),
                status: random.u8(..5),
                created_at_micros: random.i64(-2_000..2_000),
                updated_at_micros: 0,
                amount_minor: random.i64(0..),
                currency: if random.bool() { *b"USD" } else { *b"EUR" },
                item_count: random.u32(..),
                revision: 1,
            });
        }
        let at = random.usize(..self.0.len());
        let row = self.0.values().nth(at).expect("below the number of rows");
        RowChange::Update { id: row.id, status: random.u8(..5), revision: row.revision + 1, updated_at_micros: 1 }
    }
}

pub fn random_query(random: &mut fastrand::Rng, customers: &[Arc<str>]) -> ListQuery {
    let mut chance = || random.bool();
    let (by_customer, by_status, from, to) = (chance(), chance(), chance(), chance());
    let order = ORDERS[usize::from(chance())];
    let filter = ListFilter {
        customer: by_customer.then(|| Arc::clone(&customers[random.usize(..customers.len())])),
        status: by_status.then(|| random.u8(..6)),
        created_from_micros: from.then(|| random.i64(-2_500..2_500)),
        created_to_micros: to.then(|| random.i64(-2_500..2_500)),
    };
    query(filter, order, random.usize(1..700))
}

/// With values so few that rows, times and customers often coincide.
pub fn any_change() -> impl Strategy<Value = RowChange> {
    let row = (0..6_u64, 0..3_u8, 0..3_u8, 0..4_i64, any::<i64>(), any::<bool>(), 1..4_u64);
    let insert = row.prop_map(|(id, customer, status, created_at_micros, amount_minor, euro, revision)| {
        RowChange::Insert(Row {
            customer: customer.to_string().into(),
            status,
            amount_minor,
            currency: if euro { *b"EUR" } else { *b"USD" },
            revision,
            ..super::row(id, created_at_micros)
        })
    });
    let update = (0..6_u64, 0..3_u8, 1..6_u64).prop_map(|(id, status, revision)| update(id, status, revision));
    prop_oneof![3 => insert, 1 => update]
}

pub fn any_query() -> impl Strategy<Value = ListQuery> {
    let filter = (
        prop::option::of(0..4_u8),
        prop::option::of(0..4_u8),
        prop::option::weighted(0.3, -1..5_i64),
        prop::option::weighted(0.3, -1..5_i64),
    );
    let filter = filter.prop_map(|(customer, status, created_from_micros, created_to_micros)| ListFilter {
        customer: customer.map(|customer| customer.to_string().into()),
        status,
        created_from_micros,
        created_to_micros,
    });
    let after = prop::option::of((-1..5_i64, 0..7_u64));
    (filter, prop::sample::select(&ORDERS[..]), after, 1..8_usize).prop_map(|(filter, order, after, limit)| ListQuery {
        after: after.map(|(created_at_micros, id)| RowKey { created_at_micros, id }),
        ..query(filter, order, limit)
    })
}
