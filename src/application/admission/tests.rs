use super::*;

/// Simulates windows of calls whose latency follows from the limit at `per_second`, with the limit fully used.
fn settled(limiter: &Limiter, per_second: f64, base: Duration, windows: u32) -> usize {
    let mut now = limiter.window.lock().began;
    for _ in 0..windows {
        let limit = limiter.limit.load(Ordering::Relaxed);
        limiter.busy.store(limit, Ordering::Relaxed);
        let took = Duration::from_secs_f64(limit as f64 / per_second).max(base);
        for _ in 0..MIN_CALLS {
            now += WINDOW / MIN_CALLS;
            limiter.took(now, took);
        }
    }
    limiter.limit.load(Ordering::Relaxed)
}

#[test]
fn the_limit_settles_where_calls_reach_the_target_latency() {
    for per_second in [8_000.0, 20_000.0, 60_000.0] {
        let limiter = Limiter::new("command", 10_000);
        let limit = settled(&limiter, per_second, Duration::ZERO, 600);
        let took = limit as f64 / per_second;
        assert!((0.08..0.13).contains(&took), "{limit} at {per_second}/s take {took} s");
    }
    let quick = Limiter::new("command", 1_000);
    assert_eq!(settled(&quick, 1e9, Duration::ZERO, 100), 1_000, "grows to the configured limit");
    let hanging = Limiter::new("command", 10_000);
    assert_eq!(settled(&hanging, 0.1, Duration::ZERO, 100), FLOOR);
    assert!(settled(&hanging, 10_000.0, Duration::ZERO, 20) > 300, "and soon recovers");
}

#[test]
fn a_distant_store_is_not_an_overload() {
    let limiter = Limiter::new("command", 10_000);
    assert!(settled(&limiter, 1e9, Duration::from_millis(150), 100) > INITIAL);
    let overloaded = settled(&limiter, 4_000.0, Duration::from_millis(150), 100);
    assert!((FLOOR..2_000).contains(&overloaded), "{overloaded}: still bounded");
}

#[tokio::test]
async fn a_call_counts_while_in_progress_and_commands_do_not_block_reads() {
    let admission = Admission::new(4);
    let commands: Vec<_> = (0..4).map(|_| admission.admit(Class::Command, None).unwrap()).collect();
    assert!(admission.admit(Class::Command, None).is_none());
    let reads: Vec<_> = (0..2).map(|_| admission.admit(Class::BulkRead, None).unwrap()).collect();
    assert!(admission.admit(Class::BulkRead, None).is_none());
    drop([admission.admit(Class::Read, None).unwrap(), admission.admit(Class::Read, None).unwrap()]);
    drop(reads);
    commands[0].pause();
    commands[0].pause();
    let other = admission.admit(Class::Command, None).unwrap();
    assert!(admission.admit(Class::Command, None).is_none());
    assert!(commands[0].resume(), "one call above the limit is tolerated");
    drop((other, commands));
    let call = admission.admit(Class::Command, None).unwrap();
    call.run(aside(async { assert_eq!(admission.commands.busy.load(Ordering::Relaxed), 0) })).await;
    assert_eq!(admission.commands.busy.load(Ordering::Relaxed), 0);
}

#[test]
fn a_caller_with_few_calls_is_admitted_while_another_uses_the_whole_limit() {
    let admission = Admission::new(1_000);
    admission.commands.limit.store(100, Ordering::Relaxed);
    let (flood, few) = (admission.caller(), admission.caller());
    let mut calls = Vec::new();
    while let Some(call) = admission.admit(Class::Command, Some(&flood)) {
        calls.push(call);
    }
    // The whole limit: no other caller needs a share.
    assert_eq!(calls.len(), 100);
    assert!(admission.admit(Class::Command, None).is_none());
    let mut own = Vec::new();
    while let Some(call) = admission.admit(Class::Command, Some(&few)) {
        own.push(call);
    }
    assert_eq!(own.len(), 50, "half of the limit: the share of one of two callers");
    assert!(admission.admit(Class::Command, Some(&flood)).is_none(), "it uses its whole share");
    calls[0].pause();
    assert!(!calls[0].resume(), "no room while another caller needs its share");
    own.clear();
    calls.truncate(10);
    assert_eq!((flood.own(), few.own(), admission.active.load(Ordering::Relaxed)), (10, 0, 1));
    own.extend(admission.admit(Class::Command, Some(&few)));
    own[0].pause();
    own[0].pause();
    assert_eq!((few.own(), admission.active.load(Ordering::Relaxed)), (0, 1), "a waiting call is not in progress");
    assert!(own[0].resume());
    own[0].weigh(10 * UNIT_BYTES);
    own[0].weigh(0);
    assert_eq!((few.own(), admission.commands.busy.load(Ordering::Relaxed)), (11, 21), "by its bytes");
    own[0].pause();
    assert_eq!((few.own(), own[0].resume(), few.own()), (0, true, 11));
    drop(own);
    drop(calls);
    assert_eq!(admission.commands.busy.load(Ordering::Relaxed), 0);
    assert_eq!((flood.own(), few.own(), admission.active.load(Ordering::Relaxed)), (0, 0, 0));
}

#[test]
fn a_command_of_a_stream_counts_by_the_bytes_of_its_message() {
    let admission = Admission::new(40);
    let busy = || admission.commands.busy.load(Ordering::Relaxed);
    let small = admission.join(UNIT_BYTES - 1);
    assert_eq!((busy(), admission.has_room()), (1, true));
    let large = admission.join(39 * UNIT_BYTES);
    assert_eq!((busy(), admission.has_room()), (41, false));
    drop(large);
    assert_eq!((busy(), admission.has_room()), (1, true));
    drop(small);
    assert_eq!(busy(), 0);
}

#[test]
fn many_connections_do_not_get_around_the_limit() {
    let admission = Admission::new(1_000);
    admission.commands.limit.store(100, Ordering::Relaxed);
    let mut calls = Vec::new();
    for _ in 0..1_000 {
        calls.extend(admission.admit(Class::Command, Some(&admission.caller())));
    }
    assert!(calls.len() <= 150, "{} calls", calls.len());

    // At its maximum, the limit holds for every connection.
    let admission = Admission::new(40);
    let calls: Vec<_> = (0..100).filter_map(|_| admission.admit(Class::Command, Some(&admission.caller()))).collect();
    assert_eq!(calls.len(), 40);
}
