//! The checker accepts a valid history, and detects every kind of violation that is introduced into it.

use super::{
    super::history::{Answer, Asked, Call, Event, Followed, Follows, Freshness, History, Row, Status, Window},
    Losses, check,
};

const ORDER: u64 = 7;

fn row(revision: u64, status: Status) -> Row {
    Row { revision, status }
}

fn command(name: &str, times: (u64, u64), to: Status, answer: Answer) -> Call {
    let order = (to != Status::Pending).then_some(ORDER);
    let asked = Asked::Command { to, order, request: Some(format!("r-{name}")), expected: None };
    Call { name: name.to_owned(), node: 0, sent_at: times.0, answered_at: times.1, asked, answer }
}

fn done(name: &str, times: (u64, u64), to: Status, revision: u64) -> Call {
    command(name, times, to, Answer::Done { order: ORDER, row: row(revision, to) })
}

fn read(name: &str, times: (u64, u64), seen: Option<Row>) -> Call {
    let asked = Asked::OrderRepository { ids: vec![ORDER], freshness: Freshness::Strong };
    let answer = Answer::OrderRepository(vec![seen]);
    Call { name: name.to_owned(), node: 1, sent_at: times.0, answered_at: times.1, asked, answer }
}

fn list(times: (u64, u64), rows: &[Row]) -> Call {
    let answer = Answer::List(rows.iter().map(|row| (ORDER, *row)).collect());
    let asked = Asked::List { customer: "c".to_owned() };
    Call { name: "list".to_owned(), node: 1, sent_at: times.0, answered_at: times.1, asked, answer }
}

fn totals(times: (u64, u64), by_status: [u64; 5]) -> Call {
    let all = by_status.iter().sum();
    let answer = Answer::Totals { by_status, all, dollars: all - by_status[Status::Cancelled as usize] };
    Call { name: "totals".to_owned(), node: 1, sent_at: times.0, answered_at: times.1, asked: Asked::Totals, answer }
}

fn refused(reason: &str, seen: Option<Row>) -> Answer {
    let revision = seen.map_or(0, |row| row.revision);
    Answer::Refused { reason: reason.to_owned(), row: seen, revision }
}

fn unknown() -> Answer {
    Answer::Unknown { reason: "broken pipe".to_owned() }
}

fn event(call: &str, to: Status, revision: u64) -> Event {
    let request = format!("r-{call}");
    Event { order: ORDER, revision, to, call: call.to_owned(), request, customer: "c".to_owned() }
}

/// Created at 10 to 20, paid at 30 to 40, shipped at 50 to 60 without a reply; with valid reads, followers and bus.
fn sound() -> History {
    let log = vec![event("a", Status::Pending, 1), event("b", Status::Paid, 2), event("c", Status::Shipped, 3)];
    let events = |log: &[Event]| log.iter().map(|event| (event.order, event.revision, event.call.clone())).collect();
    History {
        calls: vec![
            done("a", (10, 20), Status::Pending, 1),
            read("g1", (25, 28), Some(row(1, Status::Pending))),
            done("b", (30, 40), Status::Paid, 2),
            // While it was being paid: either is right.
            read("g2", (32, 38), Some(row(1, Status::Pending))),
            list((41, 43), &[row(2, Status::Paid)]),
            totals((41, 43), [0, 1, 0, 0, 0]),
            command("p", (44, 46), Status::Paid, refused("ILLEGAL_TRANSITION", Some(row(2, Status::Paid)))),
            command("c", (50, 60), Status::Shipped, unknown()),
            // Not yet done, then done.
            read("g3", (70, 75), Some(row(2, Status::Paid))),
            read("g4", (80, 85), Some(row(3, Status::Shipped))),
        ],
        followed: vec![
            Followed { what: Follows::Everything, events: events(&log), told_at: None },
            Followed { what: Follows::Status(Status::Paid), events: events(&log[1..2]), told_at: None },
        ],
        bus: vec![(ORDER, 1), (ORDER, 2), (ORDER, 1), (ORDER, 2), (ORDER, 3)],
        log,
        windows: Vec::new(),
    }
}

fn kinds(history: &History) -> Vec<&'static str> {
    check(history).into_iter().map(|finding| finding.kind).collect()
}

/// The findings of the checker for the valid history after `breaking` it.
#[track_caller]
fn assert_found(kind: &str, breaking: impl FnOnce(&mut History)) {
    let mut history = sound();
    breaking(&mut history);
    let kinds = kinds(&history);
    assert!(kinds.contains(&kind), "{kinds:?}");
}

#[test]
fn a_sound_history_is_passed() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn a_stale_read_is_found() {
    assert_found("a stale answer", |history| {
        history.calls.push(read("old", (41, 42), Some(row(1, Status::Pending))));
    });
}

#[test]
fn a_read_that_finds_no_order_after_another_has_found_it_is_stale() {
    assert_found("a stale answer", |history| history.calls.push(read("old", (29, 31), None)));
}

#[test]
fn two_reads_that_go_back_in_time_are_found() {
    assert_found("a stale answer", |history| {
        history.calls.push(read("back", (86, 90), Some(row(2, Status::Paid))));
    });
}

#[test]
fn an_effect_that_was_seen_before_it_was_asked_for_is_found() {
    assert_found("an effect before its command", |history| {
        history.calls.push(read("soon", (42, 45), Some(row(3, Status::Shipped))));
    });
}

#[test]
fn a_stale_refusal_is_found() {
    assert_found("a stale answer", |history| {
        history.calls.push(command("d", (41, 45), Status::Shipped, refused("ORDER_NOT_FOUND", None)));
    });
}

#[test]
fn a_refusal_that_the_state_does_not_explain_is_found() {
    assert_found("a refusal without a reason", |history| {
        let answer = refused("ILLEGAL_TRANSITION", Some(row(1, Status::Pending)));
        history.calls.push(command("d", (22, 24), Status::Paid, answer));
    });
    assert_found("a refusal names a state that never was", |history| {
        let answer = refused("ILLEGAL_TRANSITION", Some(row(2, Status::Cancelled)));
        history.calls.push(command("d", (45, 49), Status::Paid, answer));
    });
    assert_found("a refusal without a reason", |history| {
        // Without an expected revision there is no conflict.
        let answer = refused("REVISION_CONFLICT", Some(row(2, Status::Paid)));
        history.calls.push(command("d", (45, 49), Status::Paid, answer));
    });
}

#[test]
fn a_refused_command_that_took_effect_is_found() {
    assert_found("refused, and done", |history| {
        history.calls[7].answer = refused("ILLEGAL_TRANSITION", Some(row(3, Status::Shipped)));
    });
    // And if a later attempt with the same request id is refused because of the effect of the first.
    assert_found("refused, and done", |history| {
        let mut again =
            command("c2", (90, 95), Status::Shipped, refused("ILLEGAL_TRANSITION", Some(row(3, Status::Shipped))));
        again.asked = history.calls[7].asked.clone();
        history.calls.push(again);
    });
}

#[test]
fn a_refused_command_without_request_id_that_took_effect_is_found_wherever_it_was_refused() {
    assert_found("refused, and done", |history| {
        history.log[2].request.clear();
        history.calls[7].asked =
            Asked::Command { to: Status::Shipped, order: Some(ORDER), request: None, expected: Some(1) };
        history.calls[7].answer = refused("REVISION_CONFLICT", Some(row(2, Status::Paid)));
    });
}

#[test]
fn a_command_reported_as_not_done_that_took_effect_is_found() {
    assert_found("said not to be done, and done", |history| {
        history.calls[7].answer = Answer::NotDone { reason: "UNAVAILABLE".to_owned() };
    });
}

#[test]
fn a_lost_acknowledged_command_is_found() {
    assert_found("an acknowledged command is lost", |history| {
        history.log.truncate(1);
    });
}

#[test]
fn an_acknowledgement_of_another_callers_command_is_found() {
    assert_found("an acknowledged command is another in the log", |history| {
        history.calls.push(done("d", (45, 49), Status::Paid, 2));
    });
}

#[test]
fn a_request_id_that_took_effect_twice_is_found() {
    assert_found("a request id took effect twice", |history| {
        let twice = Event { order: 8, request: "r-a".to_owned(), ..event("a2", Status::Pending, 1) };
        history.log.push(twice);
    });
}

#[test]
fn a_call_that_took_effect_twice_is_found() {
    assert_found("a call took effect twice", |history| {
        history.log.push(Event { order: 8, request: String::new(), ..event("a", Status::Pending, 1) });
    });
}

#[test]
fn a_retry_that_gets_another_answer_is_found() {
    assert_found("a retry got another answer", |history| {
        let mut again = done("a2", (90, 95), Status::Pending, 1);
        again.asked = history.calls[0].asked.clone();
        again.answer = Answer::Done { order: 8, row: row(1, Status::Pending) };
        history.calls.push(again);
    });
}

#[test]
fn an_illegal_history_is_found() {
    assert_found("illegal history", |history| history.log[2].to = Status::Pending);
    assert_found("revisions have a gap", |history| history.log[2].revision = 4);
}

#[test]
fn damage_that_is_claimed_is_found() {
    assert_found("an answer that may not be", |history| {
        let answer = Answer::Wrong { reason: "DATA_CORRUPT".to_owned(), message: "message 7 is missing".to_owned() };
        history.calls.push(command("d", (90, 95), Status::Delivered, answer));
    });
}

#[test]
fn an_order_in_a_state_that_never_existed_is_found() {
    assert_found("an order that never was so", |history| {
        history.calls.push(read("odd", (90, 95), Some(row(3, Status::Cancelled))));
    });
}

#[test]
fn an_answer_older_than_its_token_is_found() {
    assert_found("older than the token", |history| {
        let mut call = read("token", (90, 95), Some(row(1, Status::Pending)));
        call.asked = Asked::OrderRepository { ids: vec![ORDER], freshness: Freshness::AtLeast(ORDER, 2) };
        history.calls.push(call);
    });
}

#[test]
fn a_token_may_be_answered_with_older_state_than_the_current_one() {
    let mut history = sound();
    let mut call = read("token", (90, 95), Some(row(2, Status::Paid)));
    call.asked = Asked::OrderRepository { ids: vec![ORDER], freshness: Freshness::AtLeast(ORDER, 2) };
    history.calls.push(call);
    assert_eq!(check(&history), []);
}

#[test]
fn stale_lists_and_totals_are_found() {
    const KIND: &str = "a list or totals of no moment of the call";
    assert_found(KIND, |history| history.calls.push(list((41, 43), &[])));
    assert_found(KIND, |history| history.calls.push(list((41, 43), &[row(1, Status::Pending)])));
    assert_found(KIND, |history| history.calls.push(totals((41, 43), [1, 0, 0, 0, 0])));
    assert_found(KIND, |history| history.calls.push(totals((41, 43), [1, 1, 0, 0, 0])));
    // From a time in the future.
    assert_found(KIND, |history| history.calls.push(list((41, 43), &[row(3, Status::Shipped)])));
}

#[test]
fn followers_that_skip_repeat_or_end_short_are_found() {
    const KIND: &str = "a follower skipped, repeated or invented";
    assert_found(KIND, |history| drop(history.followed[0].events.remove(1)));
    assert_found(KIND, |history| history.followed[0].events.swap(0, 1));
    assert_found(KIND, |history| {
        let again = history.followed[0].events[1].clone();
        history.followed[0].events.insert(2, again);
    });
    assert_found("a follower was not sent everything", |history| history.followed[1].events.clear());
}

#[test]
fn a_bus_that_skips_or_lacks_events_is_found() {
    assert_found("the bus skipped", |history| history.bus = vec![(ORDER, 1), (ORDER, 3)]);
    assert_found("the bus lacks events", |history| history.bus.truncate(4));
    assert_found("the bus has what the log has not", |history| history.bus.push((8, 1)));
}

/// The valid history on Sentinel: between 90 and 200 a second order was placed, paid and seen, and all of it is lost. A follower was sent
/// it and told of the loss.
fn with_a_loss() -> History {
    let mut history = sound();
    history.windows = vec![Window { from: 90, until: 200 }];
    let mut placed = command("x", (100, 110), Status::Pending, Answer::Done { order: 8, row: row(1, Status::Pending) });
    let mut paid = command("y", (112, 115), Status::Paid, Answer::Done { order: 8, row: row(2, Status::Paid) });
    for (call, order) in [(&mut placed, None), (&mut paid, Some(8))] {
        if let Asked::Command { order: of, .. } = &mut call.asked {
            *of = order;
        }
    }
    history.calls.extend([placed, paid, of_8(read("g5", (120, 125), Some(row(2, Status::Paid))))]);
    history.calls.push(totals((130, 135), [0, 1, 1, 0, 0]));
    history.calls.push(cursor_of_another_log((140, 145)));
    history.calls.push(of_8(not_yet_then((146, 148))));
    let mut told = history.followed[0].clone();
    told.events.push((8, 1, "x".to_owned()));
    told.told_at = Some(145);
    history.followed.push(told);
    // Strict again.
    history.calls.push(of_8(read("g6", (210, 215), None)));
    history.calls.push(totals((210, 215), [0, 0, 1, 0, 0]));
    history
}

fn of_8(mut call: Call) -> Call {
    if let Asked::OrderRepository { ids, .. } = &mut call.asked {
        *ids = vec![8];
    }
    call
}

fn cursor_of_another_log(times: (u64, u64)) -> Call {
    let answer = Answer::Wrong { reason: "CURSOR_OF_ANOTHER_LOG".to_owned(), message: String::new() };
    Call { answer, ..read("follower", times, None) }
}

fn not_yet_then(times: (u64, u64)) -> Call {
    let answer = Answer::Wrong { reason: "NOT_YET_THEN".to_owned(), message: String::new() };
    Call { answer, ..read("follower", times, None) }
}

#[track_caller]
fn assert_found_together_with_a_loss(kind: &str, breaking: impl FnOnce(&mut History)) {
    let mut history = with_a_loss();
    breaking(&mut history);
    let kinds = kinds(&history);
    assert!(kinds.contains(&kind), "{kinds:?}");
}

#[test]
fn a_loss_in_a_fail_over_is_counted_and_is_not_a_finding() {
    let history = with_a_loss();
    assert_eq!(check(&history), []);
    assert_eq!(Losses::of(&history).commands.into_iter().collect::<Vec<_>>(), [(8, 1), (8, 2)]);
}

#[test]
fn a_loss_outside_of_a_fail_over_is_found() {
    const KIND: &str = "an acknowledged command is lost";
    let lost = |times| {
        let mut call = command("z", times, Status::Pending, Answer::Done { order: 9, row: row(1, Status::Pending) });
        call.name = "z".to_owned();
        call
    };
    assert_found_together_with_a_loss(KIND, |history| history.calls.push(lost((201, 202))));
    assert_found_together_with_a_loss(KIND, |history| history.calls.push(lost((85, 89))));
    // And without Sentinel, at any time.
    assert_found_together_with_a_loss(KIND, |history| history.windows.clear());
}

#[test]
fn errors_after_the_recovery_are_found() {
    const LISTS: &str = "a list or totals of no moment of the call";
    assert_found_together_with_a_loss(LISTS, |history| history.calls.push(totals((220, 225), [0, 1, 1, 0, 0])));
    assert_found_together_with_a_loss(LISTS, |history| history.calls.push(list((220, 225), &[])));
    assert_found_together_with_a_loss("an order that never was so", |history| {
        history.calls.push(of_8(read("late", (220, 225), Some(row(2, Status::Paid)))));
    });
    assert_found_together_with_a_loss("an answer that may not be", |history| {
        history.calls.push(cursor_of_another_log((220, 225)));
    });
}

#[test]
fn errors_that_the_loss_does_not_explain_are_found_within_the_window() {
    assert_found_together_with_a_loss("a stale answer", |history| {
        history.calls.push(read("old", (150, 155), Some(row(2, Status::Paid))));
    });
    assert_found_together_with_a_loss("an answer that may not be", |history| {
        let mut call = cursor_of_another_log((150, 155));
        call.answer = Answer::Wrong { reason: "DATA_CORRUPT".to_owned(), message: String::new() };
        history.calls.push(call);
    });
    assert_found_together_with_a_loss("an answer that may not be", |history| {
        history.calls.push(not_yet_then((150, 155)));
    });
}

#[test]
fn a_window_in_which_nothing_was_lost_forgives_nothing() {
    for kind in ["a list or totals of no moment of the call", "an answer that may not be"] {
        assert_found_together_with_a_loss(kind, |history| {
            history.calls.retain(|call| !["x", "y"].contains(&&*call.name))
        });
    }
}

#[test]
fn followers_that_were_not_notified_of_a_loss_or_skipped_before_it_are_found() {
    const KIND: &str = "a follower skipped, repeated or invented";
    assert_found_together_with_a_loss(KIND, |history| history.followed[2].told_at = None);
    assert_found_together_with_a_loss(KIND, |history| history.followed[2].told_at = Some(300));
    assert_found_together_with_a_loss(KIND, |history| drop(history.followed[2].events.remove(1)));
    assert_found_together_with_a_loss("a follower was not sent everything", |history| {
        history.followed[0].events.truncate(1)
    });
}

#[test]
fn a_bus_that_lacks_events_of_the_log_is_found_after_a_loss() {
    assert_found_together_with_a_loss("the bus lacks events", |history| history.bus.truncate(4));
    assert_found_together_with_a_loss("the bus has what the log has not", |history| history.bus.push((9, 1)));
}
