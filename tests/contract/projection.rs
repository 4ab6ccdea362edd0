//! The projection of orders on each read model: its start, and rebuilds.

mod busy;
mod watched_log;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use ordersystem::{
    backends::embedded::{database::Database, read_model::EmbeddedReadModel},
    ports::{
        event_store::{EventStore as _, LogId, Position},
        read_model::{ListFilter, ListOrder, ListQuery, LogCheckpoint, MAX_PAGE_ROWS, ReadModel, Row, RowChange},
    },
    processors::projections::{OrderProjection, Phase, ProjectionProgress, Rebuilds},
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::watched_log::WatchedLog;
use crate::{
    backend::race_on_each,
    read_model::BACKENDS,
    support::{PATIENCE, until},
};

/// More than are applied without reading ahead.
const MANY: u64 = 12_000;
/// A projection that runs until it is dropped.
struct Running {
    progress: ProjectionProgress,
    rebuilds: Rebuilds,
    _work: AbortOnDropHandle<()>,
}

fn run(log: &Arc<WatchedLog>, model: &Arc<dyn ReadModel>) -> Running {
    let projection = OrderProjection::new(Arc::clone(log) as _, Arc::clone(model));
    let (progress, rebuilds) = (projection.progress(), projection.rebuilds());
    let work = tokio::spawn(async move { projection.run(CancellationToken::new()).await });
    Running { progress, rebuilds, _work: AbortOnDropHandle::new(work) }
}

impl Running {
    async fn caught_up(&self, log: &WatchedLog) {
        let head = log.head().await.unwrap();
        timeout(PATIENCE, self.progress.reached(head)).await.expect("in time").unwrap();
    }

    /// Starts a rebuild and waits for its end.
    async fn rebuild(&self) -> Phase {
        let (mut state, _) = self.rebuilds.start();
        let state = timeout(PATIENCE, state.wait_for(|state| !state.is_going_on())).await.expect("in time");
        state.unwrap().phase.clone()
    }
}

/// Runs one until all of `log` is in `model`, and no longer.
async fn feed(log: &Arc<WatchedLog>, model: &Arc<dyn ReadModel>) {
    let running = run(log, model);
    running.caught_up(log).await;
    // Aborted and awaited: otherwise its last batch would follow the next steps of the test.
    drop(running);
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn rows(model: &Arc<dyn ReadModel>) -> BTreeMap<u64, Row> {
    let mut query =
        ListQuery { filter: ListFilter::default(), order: ListOrder::OldestFirst, after: None, limit: MAX_PAGE_ROWS };
    let mut rows = BTreeMap::new();
    loop {
        let page = model.list(&query).await.unwrap();
        rows.extend(page.rows.into_iter().map(|row| (row.id, row)));
        query.after = page.next;
        if query.after.is_none() {
            return rows;
        }
    }
}

/// One status for each order: 2 for those that are paid.
async fn assert_lists(model: &Arc<dyn ReadModel>, log: &WatchedLog) {
    let listed: BTreeMap<_, _> = rows(model).await.into_iter().map(|(id, row)| (id, row.status)).collect();
    assert_eq!(listed.len(), log.orders().len());
    assert!(listed == log.orders(), "the list is not what the log says");
    let count: u64 = model.totals().await.unwrap().iter().map(|totals| totals.count).sum();
    assert_eq!(count, listed.len() as u64);
}

#[test]
fn a_restart_continues_from_the_checkpoint_and_reads_only_new_events() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=MANY).await;
        feed(&log, &model).await;
        assert_lists(&model, &log).await;
        assert!(log.events_read() >= MANY * 2);

        let before = log.events_read();
        log.place_and_pay(MANY + 1..=MANY + 5).await;
        feed(&log, &model).await;
        assert_lists(&model, &log).await;
        assert_read_once(10, log.events_read() - before);

        // Far behind, it reads ahead; events that it has are still not read again.
        log.place_and_pay(MANY + 6..=MANY * 2).await;
        let before = log.events_read();
        feed(&log, &model).await;
        assert_lists(&model, &log).await;
        assert_read_once((MANY - 5) * 2, log.events_read() - before);
    });
}

/// Each of the `new` events was read once, besides the last ones before, which are checked to verify that it is the same log.
#[track_caller]
fn assert_read_once(new: u64, read: u64) {
    assert!((new + 1..=new + 4).contains(&read), "{read} for {new}");
}

#[test]
fn a_read_model_being_filled_serves_nothing_and_reports_progress() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=MANY).await;
        log.hold_at(Position(MANY));
        let running = run(&log, &model);
        timeout(PATIENCE, log.is_held()).await.expect("it reads from the start");
        let catch_up = timeout(PATIENCE, async {
            loop {
                match running.progress.catch_up() {
                    Some(catch_up) => return catch_up,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        let catch_up = catch_up.await.expect("it tells");
        assert!((1..MANY).contains(&catch_up.events), "{catch_up}");
        assert_eq!((catch_up.total, catch_up.target), (MANY * 2, Position(MANY * 2)));
        assert!(catch_up.to_string().contains("ETA"), "{catch_up}");
        assert_eq!((rows(&model).await.len(), running.progress.position()), (0, Position(0)));
        // A rebuild that is requested now runs after this one.
        let (mut state, _) = running.rebuilds.start();
        log.let_go();
        running.caught_up(&log).await;
        assert_lists(&model, &log).await;
        let state = timeout(PATIENCE, state.wait_for(|state| !state.is_going_on())).await.expect("in time").unwrap();
        assert_eq!(state.phase, Phase::Done);
        assert_lists(&model, &log).await;
        assert_eq!(running.progress.catch_up(), None);
    });
}

#[test]
fn rows_of_another_log_are_dropped_and_rebuilt_from_the_start() {
    race_on_each(BACKENDS, |model| async move {
        for (number, orders) in [(1, 1..=30), (2, 20..=60), (3, 5..=MANY), (4, 1..=3)] {
            let log = Arc::new(WatchedLog::new(number));
            log.place_and_pay(orders).await;
            feed(&log, &model).await;
            assert_lists(&model, &log).await;
            assert_eq!(model.checkpoint().await.unwrap().unwrap().log, LogId(number));
        }
    });
}

#[test]
fn a_log_restored_to_an_earlier_state_is_detected_whether_or_not_it_has_grown_again() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=40).await;
        feed(&log, &model).await;
        // Shorter than the followed log; then longer again, with other events at the same positions.
        let shorter = Arc::new(WatchedLog::new(1));
        shorter.place_and_pay(1..=20).await;
        feed(&shorter, &model).await;
        assert_lists(&model, &shorter).await;
        let grown = Arc::new(WatchedLog::new(1));
        grown.place_and_pay((1..=15).chain(100..=150)).await;
        feed(&grown, &model).await;
        assert_lists(&model, &grown).await;
        // And an empty one.
        let empty = Arc::new(WatchedLog::new(1));
        let running = run(&empty, &model);
        timeout(PATIENCE, async {
            while !rows(&model).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it is cleared");
        drop(running);
    });
}

#[test]
fn a_checkpoint_of_an_earlier_version_without_a_fingerprint_is_accepted() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=10).await;
        feed(&log, &model).await;
        let place = model.checkpoint().await.unwrap().unwrap();
        let all = rows(&model).await.into_values().map(RowChange::Insert).collect();
        model.clear().await.unwrap();
        model.apply(all, LogCheckpoint { event: 0, ..place }).await.unwrap();
        let before = log.events_read();
        log.place_and_pay(11..=12).await;
        feed(&log, &model).await;
        assert_lists(&model, &log).await;
        assert_read_once(4, log.events_read() - before);
    });
}

/// A row without any event: a rebuild removes it.
async fn add_stray(model: &Arc<dyn ReadModel>) {
    let place = model.checkpoint().await.unwrap().unwrap();
    let row = rows(model).await.into_values().next().unwrap();
    model.apply(vec![RowChange::Insert(Row { id: 1 << 40, ..row })], place).await.unwrap();
}

#[test]
fn during_a_rebuild_the_old_rows_are_served_and_updated_until_the_new_ones_replace_them_at_once() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=MANY).await;
        let running = run(&log, &model);
        running.caught_up(&log).await;
        add_stray(&model).await;
        let old = rows(&model).await.len();

        log.hold_at(Position(MANY));
        let (mut state, has_begun) = running.rebuilds.start();
        assert!(has_begun);
        timeout(PATIENCE, log.is_held()).await.expect("it reads from the start");
        let (joined, begun_again) = running.rebuilds.start();
        assert!(!begun_again && joined.borrow().number == 1, "one at a time");
        // New events are applied to the old one, for queries that wait for them as well.
        log.place_and_pay(MANY + 1..=MANY + 100).await;
        running.caught_up(&log).await;
        assert_eq!(rows(&model).await.len(), old + 100);
        assert!(state.borrow_and_update().is_going_on());

        log.let_go();
        let writer = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                for order in MANY + 101..MANY + 400 {
                    log.place_and_pay(order..=order).await;
                }
            }
        });
        // A caller that waits for a position sees at least that, across the promotion.
        let is_over = async { state.wait_for(|state| !state.is_going_on()).await.unwrap().phase.clone() };
        let mut is_over = std::pin::pin!(is_over);
        let phase = loop {
            let orders = log.orders().len();
            running.caught_up(&log).await;
            let count: u64 = model.totals().await.unwrap().iter().map(|totals| totals.count).sum();
            assert!(count >= orders as u64, "{count} of {orders}");
            if let Ok(phase) = timeout(Duration::from_millis(1), &mut is_over).await {
                break phase;
            }
        };
        assert_eq!(phase, Phase::Done);
        writer.await.unwrap();
        running.caught_up(&log).await;
        assert_lists(&model, &log).await;
    });
}

#[test]
fn a_rebuild_that_fails_leaves_the_old_one_and_the_next_one_succeeds() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=MANY).await;
        let running = run(&log, &model);
        running.caught_up(&log).await;
        add_stray(&model).await;
        let old = rows(&model).await;
        log.damage_at(Some(Position(MANY)));
        let phase = running.rebuild().await;
        assert!(matches!(&phase, Phase::Failed(why) if why.contains("damaged")), "{phase:?}");
        assert_eq!(rows(&model).await, old);
        log.damage_at(None);
        assert_eq!(running.rebuild().await, Phase::Done);
        assert_lists(&model, &log).await;
        log.place_and_pay(MANY + 1..=MANY + 2).await;
        running.caught_up(&log).await;
        assert_lists(&model, &log).await;
    });
}

#[test]
fn a_rebuild_repairs_a_damaged_model() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=10).await;
        feed(&log, &model).await;
        // Its checkpoint is ahead of its rows: the next change of order 11 finds no row.
        log.place(11).await;
        let head = log.read_all().await.pop().unwrap();
        model.apply(vec![], LogCheckpoint::after(LogId(1), &head)).await.unwrap();
        log.pay(11).await;
        let running = run(&log, &model);
        until("it is stalled", async || running.progress.failure().is_some()).await;
        assert_eq!(running.rebuild().await, Phase::Done);
        running.caught_up(&log).await;
        assert_lists(&model, &log).await;
    });
}

/// Under constant load a projection may never see the end of the log: it counts as recovered as soon as it makes progress.
#[test]
fn a_projection_that_makes_progress_is_not_stalled_though_it_is_behind() {
    race_on_each(BACKENDS, |model| async move {
        let log = Arc::new(WatchedLog::new(1));
        log.place_and_pay(1..=3_000).await;
        log.damage_at(Some(Position(10)));
        let running = run(&log, &model);
        until("it is stalled", async || running.progress.failure().is_some()).await;

        // The first batch is read, and no other.
        log.hold_at(log.head().await.unwrap());
        log.damage_at(None);
        timeout(PATIENCE, log.is_held()).await.expect("it reads on");
        assert!(running.progress.position() < log.head().await.unwrap());
        until("it is not stalled", async || running.progress.failure().is_none()).await;
        log.let_go();
        running.caught_up(&log).await;
    });
}

fn in_folder(dir: &Path) -> Arc<dyn ReadModel> {
    Arc::new(EmbeddedReadModel::new(Database::open_for_read_model(dir).unwrap()))
}

/// The tables of the file, and the number of read models.
fn tables(dir: &Path) -> (Vec<String>, i64) {
    let file = rusqlite::Connection::open(dir.join("read_model.db")).unwrap();
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND (name GLOB 'orders*' OR name GLOB 'totals*') ORDER BY 1";
    let mut statement = file.prepare(sql).unwrap();
    let tables = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    (tables, file.query_row("SELECT count(*) FROM read_models", [], |row| row.get(0)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_a_rebuild_leaves_the_old_rows_and_the_remains_are_removed() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Arc::new(WatchedLog::new(1));
    log.place_and_pay(1..=MANY).await;
    let model = in_folder(folder.path());
    let running = run(&log, &model);
    running.caught_up(&log).await;
    log.hold_at(Position(MANY));
    let (state, _) = running.rebuilds.start();
    timeout(PATIENCE, log.is_held()).await.expect("it reads from the start");
    assert!(state.borrow().is_going_on());
    // A killed process leaves the files as they are at that moment.
    for file in ["read_model.db", "read_model.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    assert_eq!(tables(copy.path()).1, 2, "it is in the middle of it");
    log.let_go();

    let model = in_folder(copy.path());
    assert_lists(&model, &log).await;
    let before = log.events_read();
    let running = run(&log, &model);
    running.caught_up(&log).await;
    assert!(log.events_read() - before <= MANY * 2 + 1);
    // The first one was built as a shadow copy, too.
    assert_eq!(tables(copy.path()), (vec!["orders_1".to_owned(), "totals_1".to_owned()], 1));
    // And the next rebuild starts clean.
    assert_eq!(running.rebuild().await, Phase::Done);
    assert_lists(&model, &log).await;
    assert_eq!(tables(copy.path()), (vec!["orders".to_owned(), "totals".to_owned()], 1));
}
