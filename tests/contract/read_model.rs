//! The read model contract.

mod naive;
mod races;
mod rebuilds;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures_util::FutureExt as _;
use ordersystem::{
    backends::{embedded::read_model::EmbeddedReadModel, memory::read_model::MemoryReadModel},
    ports::{
        event_store::{LogId, Position},
        read_model::{
            ListFilter, ListOrder, ListQuery, LogCheckpoint, MAX_PAGE_ROWS, Page, ReadModel, ReadModelError, Row,
            RowChange, RowKey, Totals,
        },
    },
};
use proptest::prelude::*;

use self::naive::NaiveModel;
use crate::backend::{Backend, Time, on_each};
use crate::embedded::scratch;

pub const BACKENDS: &[Backend<dyn ReadModel>] = &[
    Backend {
        name: "inmemory",
        time: Time::Simulated,
        open: || async { Arc::new(MemoryReadModel::new()) as Arc<dyn ReadModel> }.boxed(),
    },
    Backend {
        name: "embedded",
        time: Time::Real,
        open: || async { Arc::new(EmbeddedReadModel::new(scratch())) as Arc<dyn ReadModel> }.boxed(),
    },
];

pub type Model = Arc<dyn ReadModel>;

const ORDERS: [ListOrder; 2] = [ListOrder::NewestFirst, ListOrder::OldestFirst];
const NO_FILTER: ListFilter =
    ListFilter { customer: None, status: None, created_from_micros: None, created_to_micros: None };

fn row(id: u64, created_at_micros: i64) -> Row {
    Row {
        id,
        customer: "c-1".into(),
        status: 1,
        created_at_micros,
        updated_at_micros: created_at_micros,
        amount_minor: 100,
        currency: *b"USD",
        item_count: 2,
        revision: 1,
    }
}

/// A checkpoint in the log of these tests.
fn at(position: u64) -> LogCheckpoint {
    LogCheckpoint { log: LogId(7), position: Position(position), event: position | 1 << 63 }
}

fn insert(id: u64, created_at_micros: i64) -> RowChange {
    RowChange::Insert(row(id, created_at_micros))
}

fn update(id: u64, status: u8, revision: u64) -> RowChange {
    RowChange::Update { id, status, revision, updated_at_micros: 1_000 + revision as i64 }
}

fn query(filter: ListFilter, order: ListOrder, limit: usize) -> ListQuery {
    ListQuery { filter, order, after: None, limit }
}

fn ids(page: &Page) -> Vec<u64> {
    page.rows.iter().map(|row| row.id).collect()
}

async fn list(model: &Model, filter: ListFilter, order: ListOrder) -> Vec<Row> {
    all_pages(model, &query(filter, order, MAX_PAGE_ROWS)).await
}

/// All rows of a list, page by page.
async fn all_pages(model: &Model, query: &ListQuery) -> Vec<Row> {
    let mut query = query.clone();
    let mut rows = Vec::new();
    loop {
        let page = model.list(&query).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        if page.next.is_some() {
            assert_eq!(page.rows.len(), query.limit, "a page with a next one is full");
            assert_eq!(page.next, page.rows.last().map(Row::key));
        }
        rows.extend(page.rows);
        query.after = page.next;
        if query.after.is_none() {
            return rows;
        }
    }
}

#[test]
fn a_new_read_model_is_empty_healthy_and_at_position_zero() {
    on_each(BACKENDS, |model| async move {
        model.check().await.unwrap();
        assert_eq!(model.checkpoint().await, Ok(None));
        assert_eq!(model.totals().await, Ok(vec![]));
        for order in ORDERS {
            assert_eq!(model.list(&query(NO_FILTER, order, 10)).await, Ok(Page { rows: vec![], next: None }));
        }
    });
}

#[test]
fn a_row_is_read_as_it_was_inserted_and_changes_with_updates() {
    on_each(BACKENDS, |model| async move {
        let first = Row {
            id: (1 << 63) - 1,
            customer: "Zoë ✓".into(),
            status: 7,
            created_at_micros: -5,
            updated_at_micros: -4,
            amount_minor: i64::MAX,
            currency: *b"KWD",
            item_count: 1_000,
            revision: 3,
        };
        model.apply(vec![RowChange::Insert(first.clone())], at(1)).await.unwrap();
        assert_eq!(list(&model, NO_FILTER, ListOrder::NewestFirst).await, std::slice::from_ref(&first));

        // A row that is inserted and updated in one batch, with revisions omitted, as by a filter of events.
        let changes = vec![insert(1, 50), update(1, 2, 2), update(first.id, 9, 8), update(1, 3, 5)];
        model.apply(changes, at(9)).await.unwrap();
        let expected = [
            Row { status: 9, revision: 8, updated_at_micros: 1_008, ..first },
            Row { status: 3, revision: 5, updated_at_micros: 1_005, ..row(1, 50) },
        ];
        assert_eq!(list(&model, NO_FILTER, ListOrder::OldestFirst).await, expected);
        assert_eq!(model.checkpoint().await, Ok(Some(at(9))));
    });
}

#[test]
fn a_batch_that_updates_an_unknown_row_changes_nothing() {
    on_each(BACKENDS, |model| async move {
        model.apply(vec![insert(1, 10)], at(1)).await.unwrap();
        let before = (list(&model, NO_FILTER, ListOrder::NewestFirst).await, model.totals().await);
        // The unknown row comes after its update: that does not make it known.
        let changes = vec![insert(2, 20), update(1, 2, 2), update(3, 2, 2), insert(3, 30)];
        let refused = model.apply(changes, at(5)).await;
        assert!(matches!(refused, Err(ReadModelError::Corrupt(_))), "{refused:?}");
        let after = (list(&model, NO_FILTER, ListOrder::NewestFirst).await, model.totals().await);
        assert_eq!(after, before);
        assert_eq!(model.checkpoint().await, Ok(Some(at(1))));
        model.apply(vec![update(1, 2, 2)], at(2)).await.unwrap();
    });
}

#[test]
fn a_repeated_batch_changes_nothing() {
    on_each(BACKENDS, |model| async move {
        let batch = vec![insert(1, 10), insert(2, 20), update(1, 2, 2), update(1, 3, 3)];
        model.apply(batch.clone(), at(4)).await.unwrap();
        let before = (list(&model, NO_FILTER, ListOrder::NewestFirst).await, model.totals().await);
        model.apply(batch, at(4)).await.unwrap();
        model.apply(vec![update(1, 2, 2), insert(1, 99)], at(3)).await.unwrap();
        let after = (list(&model, NO_FILTER, ListOrder::NewestFirst).await, model.totals().await);
        assert_eq!(after, before);
    });
}

#[test]
fn an_insert_of_a_later_revision_replaces_the_row_everywhere() {
    on_each(BACKENDS, |model| async move {
        model.apply(vec![insert(1, 10), insert(2, 20)], at(2)).await.unwrap();
        let later = Row {
            customer: "c-2".into(),
            status: 4,
            amount_minor: 7,
            currency: *b"EUR",
            created_at_micros: 30,
            revision: 2,
            ..row(1, 10)
        };
        model.apply(vec![RowChange::Insert(later.clone())], at(3)).await.unwrap();
        assert_eq!(list(&model, NO_FILTER, ListOrder::OldestFirst).await, [row(2, 20), later.clone()]);
        let of = |customer: &str| ListFilter { customer: Some(customer.into()), ..NO_FILTER };
        assert_eq!(list(&model, of("c-1"), ListOrder::OldestFirst).await, [row(2, 20)]);
        assert_eq!(list(&model, of("c-2"), ListOrder::OldestFirst).await, [later]);
        let totals =
            |status, currency: &[u8; 3], amount_minor| Totals { status, currency: *currency, count: 1, amount_minor };
        assert_eq!(model.totals().await, Ok(vec![totals(1, b"USD", 100), totals(4, b"EUR", 7)]));
        assert_eq!(model.customer_totals("c-1").await, Ok(vec![totals(1, b"USD", 100)]));
        assert_eq!(model.customer_totals("c-2").await, Ok(vec![totals(4, b"EUR", 7)]));
    });
}

#[test]
fn a_checkpoint_moves_with_its_batch_and_never_back() {
    on_each(BACKENDS, |model| async move {
        for (given, expected) in [(5, 5), (3, 5), (5, 5), (6, 6), (0, 6)] {
            model.apply(vec![], at(given)).await.unwrap();
            assert_eq!(model.checkpoint().await, Ok(Some(at(expected))), "after {given}");
        }
        // The changes of a batch from before the checkpoint still count.
        model.apply(vec![insert(1, 10)], at(2)).await.unwrap();
        assert_eq!(list(&model, NO_FILTER, ListOrder::NewestFirst).await, [row(1, 10)]);
    });
}

#[test]
fn rows_of_one_time_are_in_the_order_of_their_numbers() {
    on_each(BACKENDS, |model| async move {
        let large = (1 << 63) - 1;
        let changes = vec![insert(large, 10), insert(1, 10), insert(3, 10), insert(2, 10), insert(9, 9), insert(0, 11)];
        model.apply(changes, at(1)).await.unwrap();
        for limit in 1..8 {
            let oldest = all_pages(&model, &query(NO_FILTER, ListOrder::OldestFirst, limit)).await;
            assert_eq!(oldest.iter().map(|row| row.id).collect::<Vec<_>>(), [9, 1, 2, 3, large, 0]);
            let newest = all_pages(&model, &query(NO_FILTER, ListOrder::NewestFirst, limit)).await;
            assert!(newest.iter().rev().eq(&oldest));
        }
    });
}

#[test]
fn a_page_begins_after_its_key_whether_or_not_a_row_has_it() {
    on_each(BACKENDS, |model| async move {
        model.apply((1..=5).map(|id| insert(id, id as i64 * 10)).collect(), at(1)).await.unwrap();
        let after = |created_at_micros, id| Some(RowKey { created_at_micros, id });
        let cases: [(ListOrder, Option<RowKey>, &[u64]); 8] = [
            (ListOrder::OldestFirst, after(30, 3), &[4, 5]),
            (ListOrder::OldestFirst, after(30, 2), &[3, 4, 5]),
            (ListOrder::OldestFirst, after(35, 0), &[4, 5]),
            (ListOrder::OldestFirst, after(i64::MAX, (1 << 63) - 1), &[]),
            (ListOrder::NewestFirst, after(30, 3), &[2, 1]),
            (ListOrder::NewestFirst, after(30, 4), &[3, 2, 1]),
            (ListOrder::NewestFirst, after(25, 0), &[2, 1]),
            (ListOrder::NewestFirst, after(i64::MIN, 0), &[]),
        ];
        for (order, after, expected) in cases {
            let page = model.list(&ListQuery { filter: NO_FILTER, order, after, limit: 10 }).await.unwrap();
            assert_eq!((ids(&page), page.next), (expected.to_vec(), None), "{order:?} {after:?}");
        }
    });
}

#[test]
fn times_are_bounded_from_inclusive_to_exclusive() {
    on_each(BACKENDS, |model| async move {
        let times = [i64::MIN, -1, 0, 1, i64::MAX];
        model.apply((1..).zip(times).map(|(id, at)| insert(id, at)).collect(), at(1)).await.unwrap();
        let cases: [(Option<i64>, Option<i64>, &[u64]); 9] = [
            (None, None, &[1, 2, 3, 4, 5]),
            (Some(i64::MIN), Some(i64::MAX), &[1, 2, 3, 4]),
            (Some(0), None, &[3, 4, 5]),
            (None, Some(0), &[1, 2]),
            (Some(-1), Some(1), &[2, 3]),
            (Some(0), Some(0), &[]),
            (Some(1), Some(0), &[]),
            (Some(i64::MAX), None, &[5]),
            (None, Some(i64::MIN), &[]),
        ];
        for (created_from_micros, created_to_micros, expected) in cases {
            let filter = ListFilter { created_from_micros, created_to_micros, ..NO_FILTER };
            for limit in [1, 2, 10] {
                let rows = all_pages(&model, &query(filter.clone(), ListOrder::OldestFirst, limit)).await;
                assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), expected, "{filter:?}");
                let rows = all_pages(&model, &query(filter.clone(), ListOrder::NewestFirst, limit)).await;
                assert!(rows.iter().rev().map(|row| &row.id).eq(expected), "{filter:?}");
            }
        }
    });
}

#[test]
fn a_page_has_no_more_rows_than_the_limit_and_the_bound() {
    on_each(BACKENDS, |model| async move {
        let count = MAX_PAGE_ROWS as u64 + 1;
        model.apply((1..=count).map(|id| insert(id, id as i64)).collect(), at(1)).await.unwrap();
        for order in ORDERS {
            let none = model.list(&query(NO_FILTER, order, 0)).await.unwrap();
            assert_eq!(none, Page { rows: vec![], next: None });
            let most = model.list(&query(NO_FILTER, order, usize::MAX)).await.unwrap();
            assert_eq!(most.rows.len(), MAX_PAGE_ROWS);
            assert_eq!(most.next, most.rows.last().map(Row::key));
            let rest = ListQuery { after: most.next, ..query(NO_FILTER, order, 1) };
            let rest = model.list(&rest).await.unwrap();
            assert_eq!((rest.rows.len(), rest.next), (1, None), "no page follows the last one, full or not");
        }
    });
}

#[test]
fn many_rows_that_come_in_any_order_are_listed_and_counted_as_a_naive_model_does() {
    on_each(BACKENDS, |model| async move {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut naive = NaiveModel::default();
        let customers: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        for batch in 1..=12 {
            let changes: Vec<_> = (0..700).map(|_| naive.random_change(&mut random, &customers)).collect();
            naive.apply(&changes);
            model.apply(changes, at(batch)).await.unwrap();
            assert_eq!(model.totals().await.unwrap(), naive.totals(), "seed {seed}");
            for customer in customers.iter().map(|customer| &**customer).chain(["nobody", ""]) {
                let found = model.customer_totals(customer).await.unwrap();
                assert_eq!(found, naive.customer_totals(customer), "seed {seed}: {customer}");
            }
        }
        for _ in 0..60 {
            let query = naive::random_query(&mut random, &customers);
            let expected = naive.list(&query.filter, query.order);
            assert_eq!(all_pages(&model, &query).await, expected, "seed {seed}: {query:?}");
        }
    });
}

#[test]
fn a_set_that_empties_and_fills_again_loses_nothing() {
    on_each(BACKENDS, |model| async move {
        const COUNT: u64 = 3_000;
        model.apply((0..COUNT).map(|id| insert(id, id as i64)).collect(), at(1)).await.unwrap();
        // Out of status 1 in a random order, except for some at both ends or throughout; then back again.
        let all_over: fn(u64) -> bool = |id| id.is_multiple_of(100);
        let at_ends: fn(u64) -> bool = |id| !(10..COUNT - 10).contains(&id);
        let changes = [(2, all_over, 30), (1, all_over, COUNT), (3, at_ends, 20), (1, at_ends, COUNT)];
        for ((status, stays, expected), revision) in changes.into_iter().zip(2..) {
            let moved = (0..COUNT).map(|index| index * 7 % COUNT).filter(|id| !stays(*id));
            model.apply(moved.map(|id| update(id, status, revision)).collect(), at(revision)).await.unwrap();
            let rows = list(&model, ListFilter { status: Some(1), ..NO_FILTER }, ListOrder::OldestFirst).await;
            assert_eq!(rows.len() as u64, expected);
            assert!(rows.is_sorted_by_key(Row::key));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_and_totals_are_those_of_a_naive_model(
        batches in prop::collection::vec(prop::collection::vec(naive::any_change(), 0..12), 1..6),
        queries in prop::collection::vec(naive::any_query(), 1..8),
    ) {
        on_each(BACKENDS, |model| {
            let (batches, queries) = (batches.clone(), queries.clone());
            async move {
                let mut naive = NaiveModel::default();
                for (batch, changes) in (1..).zip(batches) {
                    let makes_sense = naive.accepts(&changes);
                    if makes_sense {
                        naive.apply(&changes);
                    }
                    assert_eq!(model.apply(changes, at(batch)).await.is_ok(), makes_sense);
                    assert_eq!(model.totals().await.unwrap(), naive.totals());
                    for customer in ["0", "1", "2", "3"] {
                        assert_eq!(model.customer_totals(customer).await.unwrap(), naive.customer_totals(customer));
                    }
                }
                for query in queries {
                    assert_eq!(model.list(&query).await.unwrap(), naive.page(&query), "{query:?}");
                }
            }
        });
    }
}
