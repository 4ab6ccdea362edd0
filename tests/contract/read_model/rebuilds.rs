use std::time::{Duration, Instant};

use super::*;
use crate::backend::race_on_each;

async fn whole(model: &Model) -> (Vec<Row>, Vec<Totals>, Option<LogCheckpoint>) {
    let rows = list(model, NO_FILTER, ListOrder::OldestFirst).await;
    (rows, model.totals().await.unwrap(), model.checkpoint().await.unwrap())
}

fn of_another_log(position: u64) -> LogCheckpoint {
    LogCheckpoint { log: LogId(8), ..at(position) }
}

#[test]
fn it_accepts_changes_of_one_log_only() {
    on_each(BACKENDS, |model| async move {
        model.apply(vec![insert(1, 10)], at(5)).await.unwrap();
        let before = whole(&model).await;
        let refused = model.apply(vec![insert(2, 20)], of_another_log(6)).await;
        assert!(matches!(&refused, Err(ReadModelError::Corrupt(why)) if why.contains("from log 7")), "{refused:?}");
        assert_eq!(whole(&model).await, before);
    });
}

#[test]
fn a_cleared_read_model_is_like_a_new_one_and_accepts_changes_of_any_log() {
    on_each(BACKENDS, |model| async move {
        model.apply((1..=5_000).map(|id| insert(id, 10)).collect(), at(5)).await.unwrap();
        model.clear().await.unwrap();
        assert_eq!(whole(&model).await, (vec![], vec![], None));
        model.apply(vec![insert(2, 20)], of_another_log(1)).await.unwrap();
        assert_eq!(whole(&model).await.0, [row(2, 20)]);
        assert_eq!(model.checkpoint().await, Ok(Some(of_another_log(1))));
    });
}

#[test]
fn a_rebuild_is_invisible_until_it_is_promoted_as_a_whole() {
    on_each(BACKENDS, |model| async move {
        // Once more than there are sets of tables.
        for round in 1..=3 {
            let old: Vec<_> = (1..=round * 10).map(|id| insert(id, 10)).collect();
            model.apply(old, at(round * 100)).await.unwrap();
            let before = whole(&model).await;
            let rebuild = model.begin_rebuild().await.unwrap();
            rebuild.apply(vec![insert(1_000, 5), update(1_000, 2, 2)], at(round * 100)).await.unwrap();
            assert_eq!(whole(&model).await, before);
            rebuild.index().await.unwrap();
            assert_eq!(whole(&model).await, before);
            // The old one is updated meanwhile, and the new one after its index is built.
            model.apply(vec![insert(999, 11)], at(round * 100 + 1)).await.unwrap();
            assert_eq!(whole(&model).await.0.len(), before.0.len() + 1);
            rebuild.apply(vec![insert(1_001, 6)], at(round * 100 + 2)).await.unwrap();
            rebuild.promote().await.unwrap();

            let (rows, totals, place) = whole(&model).await;
            let updated = Row { status: 2, revision: 2, updated_at_micros: 1_002, ..row(1_000, 5) };
            assert_eq!(rows, [updated, row(1_001, 6)]);
            assert_eq!(totals.iter().map(|totals| (totals.status, totals.count)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
            assert_eq!(place, Some(at(round * 100 + 2)));
            // It is a read model like any other from now on.
            model.apply(vec![update(1_001, 3, 2)], at(round * 100 + 3)).await.unwrap();
            for status in [2, 3] {
                let filter = ListFilter { status: Some(status), customer: Some("c-1".into()), ..NO_FILTER };
                assert_eq!(list(&model, filter, ListOrder::NewestFirst).await.len(), 1);
            }
        }
    });
}

#[test]
fn a_rebuild_that_is_behind_is_not_promoted_and_may_catch_up() {
    on_each(BACKENDS, |model| async move {
        let rebuild = model.begin_rebuild().await.unwrap();
        rebuild.apply(vec![insert(1, 10)], at(9)).await.unwrap();
        model.apply(vec![insert(1, 10), insert(2, 20)], at(10)).await.unwrap();
        let before = whole(&model).await;
        let refused = rebuild.promote().await;
        assert!(matches!(refused, Err(ReadModelError::Unavailable(_))), "{refused:?}");
        assert_eq!(whole(&model).await, before);
        rebuild.apply(vec![insert(2, 20)], at(10)).await.unwrap();
        rebuild.promote().await.unwrap();
        assert_eq!(whole(&model).await, before);
    });
}

#[test]
fn a_rebuild_has_the_same_rules_as_the_read_model_that_is_served() {
    on_each(BACKENDS, |model| async move {
        let rebuild = model.begin_rebuild().await.unwrap();
        rebuild.apply(vec![insert(5, 50), insert(3, 30)], at(2)).await.unwrap();
        let refused = rebuild.apply(vec![insert(6, 60), update(4, 2, 2)], at(3)).await;
        assert!(matches!(refused, Err(ReadModelError::Corrupt(_))), "{refused:?}");
        let refused = rebuild.apply(vec![], of_another_log(3)).await;
        assert!(matches!(refused, Err(ReadModelError::Corrupt(_))), "{refused:?}");
        // Again, as after a failure with an unknown outcome; and ids below the highest.
        rebuild.apply(vec![insert(5, 99), insert(4, 40), update(3, 2, 2)], at(3)).await.unwrap();
        rebuild.promote().await.unwrap();
        let (rows, _, place) = whole(&model).await;
        assert_eq!(rows.iter().map(|row| (row.id, row.status)).collect::<Vec<_>>(), [(3, 2), (4, 1), (5, 1)]);
        assert_eq!(rows[2].created_at_micros, 50);
        assert_eq!(place, Some(at(3)));
    });
}

#[test]
fn a_rebuild_that_has_ended_changes_nothing() {
    on_each(BACKENDS, |model| async move {
        model.apply(vec![insert(1, 10)], at(1)).await.unwrap();
        let overtaken = model.begin_rebuild().await.unwrap();
        overtaken.apply(vec![insert(2, 20)], at(2)).await.unwrap();
        let discarded = model.begin_rebuild().await.unwrap();
        discarded.apply(vec![insert(3, 30)], at(3)).await.unwrap();
        discarded.discard().await.unwrap();
        let done = model.begin_rebuild().await.unwrap();
        done.apply(vec![insert(4, 40)], at(4)).await.unwrap();
        // An overtaken rebuild removes only its own tables.
        overtaken.discard().await.unwrap();
        done.promote().await.unwrap();
        for over in [overtaken, discarded, done] {
            let results = [over.apply(vec![insert(9, 90)], at(9)).await, over.index().await, over.promote().await];
            assert!(results.iter().all(|result| matches!(result, Err(ReadModelError::Unavailable(_)))), "{results:?}");
            over.discard().await.unwrap();
        }
        assert_eq!(whole(&model).await.0, [row(4, 40)]);
        assert_eq!(model.checkpoint().await, Ok(Some(at(4))));
    });
}

#[test]
fn readers_see_the_old_rows_or_the_new_ones_while_one_rebuild_follows_another() {
    race_on_each(BACKENDS, |model| async move {
        // All rows of one generation have its time; each generation has more rows than the one before.
        let generation = |of: u64| (1..=of * 10).map(|id| insert(id, of as i64)).collect::<Vec<_>>();
        model.apply(generation(1), at(1)).await.unwrap();
        let writer = tokio::spawn({
            let model = Arc::clone(&model);
            async move {
                for of in 2..=40 {
                    let rebuild = model.begin_rebuild().await.unwrap();
                    for part in generation(of).chunks(7) {
                        rebuild.apply(part.to_vec(), at(of)).await.unwrap();
                    }
                    rebuild.promote().await.unwrap();
                }
            }
        });
        let (mut last, started) = (1, Instant::now());
        while last < 40 {
            assert!(started.elapsed() < Duration::from_secs(300), "the rebuilds do not end");
            let reached = model.checkpoint().await.unwrap().unwrap().position.0;
            let page = model.list(&query(NO_FILTER, ListOrder::NewestFirst, MAX_PAGE_ROWS)).await.unwrap();
            let of = page.rows[0].created_at_micros;
            assert!(page.rows.iter().all(|row| row.created_at_micros == of), "rows of two generations");
            assert_eq!(page.rows.len() as i64, of * 10);
            let count = model.totals().await.unwrap().iter().map(|totals| totals.count).sum::<u64>();
            assert!(
                count.is_multiple_of(10) && reached <= of as u64 && of as u64 <= count / 10,
                "{reached} {of} {count}"
            );
            assert!(of >= last, "back to an older generation");
            last = of;
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
    });
}
