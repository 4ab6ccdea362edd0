use super::*;
use crate::backend::race_on_each;

#[test]
fn a_list_that_is_paged_while_rows_come_has_no_gaps_and_no_repeats() {
    race_on_each(BACKENDS, |model| async move {
        // Rows that are there throughout have even times; rows added during the race fall between and around them.
        const STEADY: u64 = 2_000;
        let steady = (1..=STEADY).map(|id| insert(id, id as i64 * 2)).collect();
        model.apply(steady, at(1)).await.unwrap();
        let writer = tokio::spawn({
            let model = Arc::clone(&model);
            async move {
                for batch in 0..200 {
                    let first = 1_000_000 + batch * 20;
                    let mut changes: Vec<_> =
                        (first..first + 20).map(|id| insert(id, (id as i64 * 7_919 % 4_500) | 1)).collect();
                    changes.extend((0..20).map(|index| update(1 + (batch * 20 + index) % STEADY, 2, batch + 2)));
                    model.apply(changes, at(batch + 2)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut passes = 0;
        while !writer.is_finished() || passes < 2 {
            for order in ORDERS {
                let rows = all_pages(&model, &query(NO_FILTER, order, 37)).await;
                let seen: HashSet<_> = rows.iter().map(|row| row.id).collect();
                assert_eq!(seen.len(), rows.len(), "a row twice");
                assert!((1..=STEADY).all(|id| seen.contains(&id)), "a row left out");
                assert!(
                    rows.is_sorted_by(|left, right| (left.key() < right.key()) == (order == ListOrder::OldestFirst))
                );
            }
            passes += 1;
        }
        writer.await.unwrap();
    });
}

#[test]
fn a_reader_never_sees_a_part_of_a_batch() {
    race_on_each(BACKENDS, |model| async move {
        const BATCHES: u64 = 300;
        let writer = tokio::spawn({
            let model = Arc::clone(&model);
            async move {
                for batch in 0..BATCHES {
                    let changes = (0..10).map(|index| insert(batch * 10 + index, batch as i64)).collect();
                    model.apply(changes, at(batch + 1)).await.unwrap();
                }
            }
        });
        let mut count = 0;
        while count < BATCHES * 10 {
            let before = model.checkpoint().await.unwrap().map_or(0, |place| place.position.0);
            count = model.totals().await.unwrap().first().map_or(0, |totals| totals.count);
            let page = model.list(&query(NO_FILTER, ListOrder::NewestFirst, 10)).await.unwrap();
            let after = model.checkpoint().await.unwrap().map_or(0, |place| place.position.0);
            assert!(
                count.is_multiple_of(10) && (before * 10..=after * 10).contains(&count),
                "{before} {count} {after}"
            );
            assert!(page.rows.iter().all(|row| row.created_at_micros == page.rows[0].created_at_micros));
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
    });
}
