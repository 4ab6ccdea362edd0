use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use tokio_util::sync::CancellationToken;

use super::{layout::SEQUENCES, mark_keeper::MARK_TICK, waiting::MARK_POLL_MS, *};
use crate::{
    ports::clock::{ManualClock, SystemClock},
    telemetry::outage::Away,
};

pub(super) const START_MICROS: i64 = EPOCH_UNIX_MICROS + 1_000_000 * MICROS_PER_MS;

fn node() -> NodeIdentity {
    NodeIdentity::new(3, 7).unwrap()
}

fn manual() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_MICROS))
}

/// A generator past its first wait, and its clock.
pub(super) fn running() -> (IdGenerator, Arc<ManualClock>) {
    let clock = manual();
    let generator = IdGenerator::new(node(), clock.clone()).unwrap();
    clock.advance_ms(10);
    (generator, clock)
}

/// All ids that may be issued at this moment.
fn drain(generator: &IdGenerator) -> Vec<u64> {
    let mut ids = Vec::new();
    while let Reservation::Ids(run) = generator.reserve(u32::MAX).unwrap() {
        ids.extend(run.ids());
    }
    ids
}

fn ms_of(id: u64) -> u64 {
    parse(id).unwrap().timestamp_ms_unix - EPOCH_UNIX_MS
}

fn assert_growing(ids: &[u64]) {
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "ids must grow");
}

/// A mark that survives its generator, as a file does; it can be made to fail.
#[derive(Debug, Clone, Default)]
struct SharedMark {
    stored: Arc<Mutex<Option<u64>>>,
    broken: Arc<AtomicBool>,
    unowned: Arc<AtomicBool>,
    /// How often it was to be stored.
    tries: Arc<AtomicU64>,
}

impl SharedMark {
    /// Says that the node owns none.
    fn is_unowned(&self) -> bool {
        self.unowned.load(Ordering::SeqCst)
    }
}

impl HighWaterMark for SharedMark {
    fn load(&self) -> Result<Option<u64>, MarkError> {
        Ok(*self.stored.lock())
    }

    fn store(&self, unix_ms: u64) -> Result<(), MarkError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        if self.is_unowned() {
            return Err(MarkError::unowned("of the cluster", "this node owns no worker number now"));
        }
        if self.broken.load(Ordering::SeqCst) {
            return FileMark::new("/nowhere/at/all").store(unix_ms);
        }
        *self.stored.lock() = Some(unix_ms);
        Ok(())
    }
}

fn restarted(clock: &Arc<ManualClock>, mark: &SharedMark) -> Result<IdGenerator, StartError> {
    IdGenerator::with_mark(node(), clock.clone(), Box::new(mark.clone()))
}

#[test]
fn the_layout_is_41_5_5_12_bits_from_2024() {
    let id = NodeIdentity::new(1, 2).unwrap().id_of(3, 4);
    assert_eq!(id, 3 * 4_194_304 + 131_072 + 2 * 4_096 + 4);
    let last = NodeIdentity::new(31, 31).unwrap().id_of(MAX_MS, 4_095);
    assert_eq!(last, i64::MAX.unsigned_abs());
    let parts = IdParts { timestamp_ms_unix: 1_704_067_200_003, datacenter_id: 1, worker_id: 2, sequence: 4 };
    assert_eq!(parse(id), Ok(parts));
}

#[test]
fn an_id_carries_the_time_and_the_node() {
    let (generator, clock) = running();
    let parts = parse(generator.next().unwrap()).unwrap();
    assert_eq!(parts.timestamp_ms_unix as i64, clock.now_micros() / 1_000);
    assert_eq!((parts.datacenter_id, parts.worker_id, parts.sequence), (3, 7, 0));
    assert_eq!(parse(generator.next().unwrap()).unwrap().sequence, 1);
    clock.advance_ms(1);
    assert_eq!(parse(generator.next().unwrap()).unwrap().sequence, 0, "each millisecond has its own sequence");
}

#[test]
fn numbers_that_are_not_ids_are_refused() {
    assert_eq!(parse(0), Err(InvalidId(0)));
    assert_eq!(parse(1 << 63), Err(InvalidId(1 << 63)));
    assert!(parse(i64::MAX.unsigned_abs()).is_ok());
}

#[test]
fn node_ids_above_31_are_refused_by_name() {
    assert_eq!(NodeIdentity::new(32, 0).unwrap_err().to_string(), "datacenter id 32 is not from 0 to 31");
    assert_eq!(NodeIdentity::new(31, 255).unwrap_err().to_string(), "worker id 255 is not from 0 to 31");
    assert!(NodeIdentity::new(31, 31).is_ok());
}

#[test]
fn a_clock_outside_of_the_41_bits_is_an_error() {
    let clock = manual();
    let generator = IdGenerator::new(node(), clock.clone()).unwrap();
    clock.set_micros(EPOCH_UNIX_MICROS - 1);
    assert_eq!(generator.next(), Err(IdError::BeforeEpoch));
    assert_eq!(IdGenerator::new(node(), clock.clone()).unwrap_err(), IdError::BeforeEpoch);
    clock.set_micros(EPOCH_UNIX_MICROS + (MAX_MS as i64) * 1_000);
    assert_eq!(ms_of(generator.next().unwrap()), MAX_MS);
    clock.advance_ms(1);
    assert_eq!(generator.next(), Err(IdError::PastEnd));
    assert!(!IdError::PastEnd.is_retryable());
}

#[test]
fn saturation_borrows_two_milliseconds_and_then_waits_for_the_clock() {
    let (generator, clock) = running();
    clock.advance_micros(300);
    let ids = drain(&generator);
    assert_eq!(ids.len() as u64, SEQUENCES * (1 + MAX_BORROW_MS));
    assert_growing(&ids);
    assert_eq!(generator.reserve(1), Ok(Reservation::WaitMicros(700)));
    clock.advance_micros(700);
    assert_eq!(drain(&generator).len() as u64, SEQUENCES);
}

#[test]
fn a_stopped_clock_ends_in_saturated_not_in_a_hang() {
    let (generator, _clock) = running();
    drain(&generator);
    assert_eq!(generator.next(), Err(IdError::Saturated));
    let mut out = vec![1];
    assert_eq!(generator.next_batch(5, &mut out), Err(IdError::Saturated));
    assert_eq!(out, [1], "a failed batch leaves nothing behind");
}

#[test]
fn after_a_step_back_ids_continue_from_the_last_timestamp() {
    let (generator, clock) = running();
    let before = generator.next().unwrap();
    clock.advance_ms(-4_000);
    let after = generator.next().unwrap();
    assert_eq!(after, before + 1);
    clock.advance_ms(4_001);
    assert_eq!(ms_of(generator.next().unwrap()), ms_of(before) + 1, "the clock has caught up");
}

#[test]
fn after_a_step_back_the_rate_of_the_layout_still_holds() {
    let (generator, clock) = running();
    let mut ids = vec![generator.next().unwrap()];
    clock.advance_ms(-3_000);
    for _ in 0..1_000 {
        clock.advance_micros(500);
        ids.extend(drain(&generator));
    }
    assert_growing(&ids);
    let milliseconds = ids.len() as u64 / SEQUENCES;
    assert!((500..=500 + 2 + MAX_BORROW_MS).contains(&milliseconds), "{milliseconds} ms of ids in 500 ms");
}

#[test]
fn two_steps_back_in_a_row_neither_repeat_nor_burst() {
    let (generator, clock) = running();
    let mut ids = drain(&generator);
    for _ in 0..2 {
        clock.advance_ms(-100);
        ids.extend(drain(&generator));
        clock.advance_ms(1);
        ids.extend(drain(&generator));
    }
    assert_growing(&ids);
    assert!(ids.len() as u64 <= 8 * SEQUENCES, "{}", ids.len());
}

#[test]
fn a_step_back_past_the_bound_is_refused_until_the_clock_catches_up() {
    let (generator, clock) = running();
    let before = generator.next().unwrap();
    clock.advance_ms(-5_001);
    let refused = generator.next().unwrap_err();
    assert_eq!(refused, IdError::ClockBehind { by_ms: 5_001 });
    assert!(refused.is_retryable());
    clock.advance_ms(1);
    assert_eq!(generator.next(), Ok(before + 1));
}

#[test]
fn a_run_stays_within_one_millisecond() {
    let (generator, _clock) = running();
    assert_eq!(generator.reserve(4_000).map(count), Ok(4_000));
    assert_eq!(generator.reserve(4_000).map(count), Ok(96));
    assert_eq!(generator.reserve(0).map(count), Ok(0));
}

fn count(reservation: Reservation) -> u32 {
    match reservation {
        Reservation::Ids(run) => run.count,
        Reservation::WaitMicros(micros) => panic!("told to wait {micros} us"),
    }
}

#[test]
fn a_restart_with_the_clock_stepped_back_repeats_no_id() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), manual());
    let start =
        || IdGenerator::with_mark(node(), clock.clone(), Box::new(FileMark::new(folder.path().join("id-mark"))));
    let first = start().unwrap();
    clock.advance_ms(1_000);
    let before = drain(&first);
    drop(first);
    clock.advance_ms(-1_500);
    let after = drain(&start().unwrap());
    assert!(after[0] > before[before.len() - 1]);
}

#[test]
fn a_start_with_a_mark_far_in_the_future_issues_nothing_moves_no_mark_and_heals_with_time() {
    let (clock, mark) = (manual(), SharedMark::default());
    drop(restarted(&clock, &mark).unwrap());
    let stored = mark.load().unwrap();
    clock.advance_ms(-60_000);
    for _ in 0..5 {
        let waiting = restarted(&clock, &mark).unwrap();
        assert_eq!(waiting.next(), Err(IdError::ClockBehind { by_ms: 63_000 }));
        assert_eq!(waiting.is_ahead_by_ms(), Some(63_000));
        waiting.advance_mark().unwrap();
        assert_eq!(mark.load().unwrap(), stored, "starts that issue nothing do not push the mark ahead");
    }
    let waiting = restarted(&clock, &mark).unwrap();
    clock.advance_ms(58_000);
    waiting.advance_mark().unwrap();
    assert_eq!(waiting.is_ahead_by_ms(), None);
    assert!(parse(waiting.next().unwrap()).unwrap().timestamp_ms_unix >= stored.unwrap());
}

#[test]
fn crashes_every_second_never_lock_the_node_out() {
    let (clock, mark) = (manual(), SharedMark::default());
    let mut ids = Vec::new();
    for _ in 0..50 {
        let generator = restarted(&clock, &mark).unwrap();
        ids.extend(drain(&generator));
        clock.advance_ms(1_500);
        generator.advance_mark().unwrap();
        ids.extend(drain(&generator));
    }
    assert_growing(&ids);
}

#[test]
fn no_id_passes_the_stored_mark() {
    let (clock, mark) = (manual(), SharedMark::default());
    let generator = restarted(&clock, &mark).unwrap();
    clock.advance_ms(1_000);
    mark.broken.store(true, Ordering::SeqCst);
    assert!(generator.advance_mark().unwrap_err().to_string().contains("cannot be written"));
    clock.advance_ms(1_999);
    assert!(generator.next().is_ok());
    clock.advance_ms(1);
    assert_eq!(generator.next(), Err(IdError::MarkBehind));
    mark.broken.store(false, Ordering::SeqCst);
    generator.advance_mark().unwrap();
    assert!(generator.next().is_ok());
}

#[test]
fn a_closed_generator_issues_nothing_and_the_next_one_starts_right_after_it() {
    let (clock, mark) = (manual(), SharedMark::default());
    let first = restarted(&clock, &mark).unwrap();
    clock.advance_ms(10);
    let last = first.next().unwrap();
    first.close().unwrap();
    first.close().unwrap();
    first.advance_mark().unwrap();
    assert_eq!(first.next(), Err(IdError::Sealed));
    let second = restarted(&clock, &mark).unwrap();
    assert_eq!(ms_of(second.next().unwrap()), ms_of(last) + 1);
}

#[test]
fn eight_threads_share_no_id_and_each_sees_them_grow() {
    let generator = IdGenerator::new(node(), Arc::new(SystemClock)).unwrap();
    let per_thread: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..50_000).map(|_| generator.next().unwrap()).collect())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    per_thread.iter().for_each(|ids: &Vec<u64>| assert_growing(ids));
    assert_eq!(per_thread.iter().flatten().collect::<HashSet<_>>().len(), 400_000);
}

#[test]
fn threads_share_no_id_while_the_clock_jumps_back_and_forth() {
    let clock = manual();
    let generator = IdGenerator::new(node(), clock.clone()).unwrap();
    let stop = AtomicBool::new(false);
    let ids: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut ids = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        if let Ok(Reservation::Ids(run)) = generator.reserve(100) {
                            ids.extend(run.ids());
                        }
                    }
                    ids
                })
            })
            .collect();
        for step in 0..400 {
            clock.advance_ms(if step % 7 == 0 { -20 } else { 5 });
            std::thread::sleep(Duration::from_micros(200));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    ids.iter().for_each(|ids| assert_growing(ids));
    let issued = ids.iter().map(Vec::len).sum::<usize>();
    assert_eq!(ids.iter().flatten().collect::<HashSet<_>>().len(), issued);
    assert!(issued > 4_096, "{issued}");
}

#[tokio::test]
async fn an_async_batch_is_complete_growing_and_no_faster_than_the_layout() {
    let generator = IdGenerator::new(node(), Arc::new(SystemClock)).unwrap();
    generator.next_async().await.unwrap();
    let (start, mut ids) = (Instant::now(), Vec::new());
    generator.next_batch_async(100_000, &mut ids).await.unwrap();
    let layout_time = Duration::from_micros(1_000_000 * 100_000 / 4_096_000 - 3_000);
    assert!(start.elapsed() >= layout_time, "{:?}", start.elapsed());
    assert_growing(&ids);
    assert_eq!(ids.len(), 100_000);
}

#[tokio::test]
async fn the_keeper_moves_the_mark_until_it_is_cancelled() {
    let (clock, mark) = (manual(), SharedMark::default());
    let generator = Arc::new(restarted(&clock, &mark).unwrap());
    let cancel = CancellationToken::new();
    let keeper = tokio::spawn(Arc::clone(&generator).keep_mark_ahead(cancel.clone(), Away::default()));
    clock.advance_ms(3_600_000);
    assert_eq!(generator.next(), Err(IdError::MarkBehind));
    tokio::time::sleep(2 * MARK_TICK).await;
    assert!(generator.next().is_ok());
    cancel.cancel();
    keeper.await.unwrap();
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn count(&self, words: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock()).matches(words).count()
    }
}

#[tokio::test]
async fn a_mark_that_the_node_does_not_own_yet_is_no_fault_and_one_that_cannot_be_stored_is() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(log);
    let (clock, mark) = (manual(), SharedMark::default());
    let generator = Arc::new(restarted(&clock, &mark).unwrap());
    let cancel = CancellationToken::new();
    let tried = async |times: u64| {
        let before = mark.tries.load(Ordering::SeqCst);
        while mark.tries.load(Ordering::SeqCst) < before + times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    mark.unowned.store(true, Ordering::SeqCst);
    clock.advance_ms(3_600_000);
    let keeper = tokio::spawn(Arc::clone(&generator).keep_mark_ahead(cancel.clone(), Away::default()));
    tried(2).await;
    assert_eq!(lines.count("id mark"), 0, "a start in a cluster logs no error");
    assert!(generator.mark_failure().unwrap().contains("owns no worker number"));
    mark.broken.store(true, Ordering::SeqCst);
    mark.unowned.store(false, Ordering::SeqCst);
    tried(3).await;
    assert_eq!(lines.count("cannot advance the id mark"), 1);
    mark.broken.store(false, Ordering::SeqCst);
    tried(1).await;
    while lines.count("the id mark advances again") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(generator.mark_failure(), None);
    cancel.cancel();
    keeper.await.unwrap();
}

#[tokio::test]
async fn an_async_call_waits_for_a_slow_mark_but_not_forever() {
    let (clock, mark) = (manual(), SharedMark::default());
    let generator = Arc::new(restarted(&clock, &mark).unwrap());
    clock.advance_ms(3_600_000);
    let waiting = tokio::spawn({
        let generator = Arc::clone(&generator);
        async move { generator.next_async().await }
    });
    tokio::time::sleep(Duration::from_millis(5 * MARK_POLL_MS)).await;
    assert!(!waiting.is_finished());
    generator.advance_mark().unwrap();
    assert!(waiting.await.unwrap().is_ok());
    clock.advance_ms(3_600_000);
    assert_eq!(generator.next_async().await, Err(IdError::MarkBehind));
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_for_a_mark_whose_store_has_failed() {
    let (clock, mark) = (manual(), SharedMark::default());
    let generator = restarted(&clock, &mark).unwrap();
    mark.broken.store(true, Ordering::SeqCst);
    clock.advance_ms(3_600_000);
    generator.advance_mark().unwrap_err();
    let started = tokio::time::Instant::now();
    assert_eq!(generator.next_async().await, Err(IdError::MarkBehind));
    assert_eq!(started.elapsed(), Duration::ZERO);
    mark.broken.store(false, Ordering::SeqCst);
    generator.advance_mark().unwrap();
    assert!(generator.next_async().await.is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    Move(i64),
    Issue(u32),
    AdvanceMark,
    Crash,
    Stop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (-2_000_i64..3_000).prop_map(Step::Move),
        2 => (0_i64..3).prop_map(Step::Move),
        6 => (1_u32..6_000).prop_map(Step::Issue),
        2 => Just(Step::AdvanceMark),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn every_id_can_be_split_and_reassembled(ms in 0..=MAX_MS, dc in 0_u8..32, worker in 0_u8..32, seq in 0_u64..4_096) {
        prop_assume!(ms | u64::from(dc) | u64::from(worker) | seq != 0);
        let id = NodeIdentity::new(dc, worker).unwrap().id_of(ms, seq);
        let parts = IdParts {
            timestamp_ms_unix: EPOCH_UNIX_MS + ms, datacenter_id: dc, worker_id: worker, sequence: seq as u16,
        };
        prop_assert_eq!(parse(id), Ok(parts));
    }

    #[test]
    fn ids_grow_over_any_moves_of_the_clock_crashes_and_restarts(steps in prop::collection::vec(step(), 1..60)) {
        let (clock, mark) = (manual(), SharedMark::default());
        let mut generator = Some(restarted(&clock, &mark).unwrap());
        let mut last = 0;
        for step in steps {
            match step {
                Step::Move(ms) => clock.advance_ms(ms),
                Step::Issue(max) => if let Some(Ok(Reservation::Ids(run))) = generator.as_ref().map(|g| g.reserve(max)) {
                    prop_assert!(run.first > last);
                    prop_assert!(ms_of(run.first) <= whole_ms(clock.now_micros() - EPOCH_UNIX_MICROS) + MAX_CLOCK_LEAD_MS);
                    last = run.first + u64::from(run.count) - 1;
                },
                Step::AdvanceMark => if let Some(generator) = &generator { generator.advance_mark().unwrap() },
                Step::Crash => generator = Some(restarted(&clock, &mark).unwrap()),
                Step::Stop => {
                    if let Some(generator) = &generator { generator.close().unwrap() }
                    generator = Some(restarted(&clock, &mark).unwrap());
                }
            }
        }
    }
}

#[test]
fn a_rebased_generator_issues_as_the_other_node_past_what_that_has_issued_and_only_with_a_mark() {
    let clock = manual();
    let identity = |worker| NodeIdentity::new(3, worker).unwrap();
    let mark = SharedMark::default();
    let generator = IdGenerator::with_mark(identity(1), clock.clone(), Box::new(mark.clone())).unwrap();
    clock.advance_ms(10);
    let before = parse(generator.next().unwrap()).unwrap();
    assert_eq!((before.datacenter_id, before.worker_id), (3, 1));

    let others_mark = before.timestamp_ms_unix + 2_000;
    generator.rebase(identity(2), others_mark);
    assert!(matches!(generator.next(), Err(IdError::Unclaimed)), "no mark of the other node is stored yet");
    generator.advance_mark().unwrap();
    clock.advance_ms(2_000);
    let after = parse(generator.next().unwrap()).unwrap();
    assert_eq!((after.datacenter_id, after.worker_id, generator.node()), (3, 2, identity(2)));
    assert!(after.timestamp_ms_unix >= others_mark);
    assert!(mark.stored.lock().unwrap() > after.timestamp_ms_unix);

    // A clock that was a day ahead for a moment: another number is unaffected by the ids issued then.
    clock.advance_ms(86_400_000);
    generator.advance_mark().unwrap();
    let ahead = parse(generator.next().unwrap()).unwrap();
    clock.advance_ms(-86_400_000);
    assert!(matches!(generator.next(), Err(IdError::ClockBehind { .. })));
    let now_ms = after.timestamp_ms_unix + 1;
    generator.rebase(identity(4), now_ms);
    generator.advance_mark().unwrap();
    clock.advance_ms(10);
    let healed = parse(generator.next().unwrap()).unwrap();
    assert_eq!(healed.worker_id, 4);
    assert!((now_ms..ahead.timestamp_ms_unix).contains(&healed.timestamp_ms_unix));
    // Under the previous number the ids issued under it still count.
    generator.rebase(identity(4), 0);
    generator.advance_mark().unwrap();
    assert!(parse(generator.next().unwrap()).unwrap().timestamp_ms_unix >= healed.timestamp_ms_unix);

    generator.close().unwrap();
    generator.rebase(identity(1), 0);
    assert!(matches!(generator.next(), Err(IdError::Sealed)));
}
