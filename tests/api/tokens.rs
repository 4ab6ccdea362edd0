//! Cursors, consistency tokens and page tokens that this service has not issued: both APIs refuse them, whichever byte was changed.

use data_encoding::BASE64URL_NOPAD;
use ordersystem::{
    application::tokens::{PageKey, encode_cursor, encode_page_token, encode_token},
    ports::event_store::{LogId, LogPoint, Position, TokenKey},
    server::Signer,
};
use reqwest::Method;
use tonic::{Code, Status};

use crate::{
    rest::{Reply, Rest},
    support::code_and_reason,
    unknown_log::{Kept, ask_by_grpc, ask_by_rest, keep},
};

const MADE_UP: &str = "INVALID_ARGUMENT";
const FOREIGN: &str = "CURSOR_OF_ANOTHER_LOG";

/// Whether a call takes a token, not only returns one.
fn shows_something(call: &str) -> bool {
    ["token", "a page", "after"].iter().any(|word| call.contains(word)) && !call.contains("whose reply")
}

async fn by_grpc(rest: &Rest, shown: &Kept) -> Vec<(&'static str, Result<(), Status>)> {
    let mut answers = ask_by_grpc(&rest.server, shown).await;
    answers.retain(|(call, _)| shows_something(call));
    assert_eq!(answers.len(), 6);
    answers
}

async fn is_refused(rest: &Rest, shown: &Kept, reason: &str, what: &str) {
    for (call, answer) in by_grpc(rest, shown).await {
        let refusal = answer.expect_err(call);
        assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, reason.to_owned()), "{what}: {call}");
    }
    let mut replies = ask_by_rest(rest, shown).await;
    replies.retain(|(call, _)| shows_something(call));
    assert_eq!(replies.len(), 6);
    for (call, reply) in replies {
        assert_eq!(reply.status, 400, "{what}: {call}");
        reply.problem(400, reason);
    }
}

async fn is_taken(rest: &Rest, shown: &Kept) {
    for (call, answer) in by_grpc(rest, shown).await {
        answer.unwrap_or_else(|status| panic!("{call}: {status:?}"));
    }
    let by_token = rest.request(Method::GET, "/stats").header("X-Consistency-Token", &shown.token);
    assert_eq!(Reply::of(by_token).await.status, 200);
    for path in ["/events?cursor=", "/orders?pageSize=1&pageToken="].into_iter().zip([&shown.cursor, &shown.page_token])
    {
        assert_eq!(rest.get(&format!("{}{}", path.0, path.1)).await.status, 200, "{path:?}");
    }
}

/// The text with another byte at `at`; beyond its end, the last byte.
fn tampered(text: &str, at: usize) -> String {
    let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64");
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1 << (at % 8);
    BASE64URL_NOPAD.encode(&bytes)
}

#[tokio::test]
async fn a_change_of_any_byte_is_refused_by_both_apis() {
    let rest = Rest::start().await;
    let given = keep(&rest).await;
    is_taken(&rest, &given).await;
    let longest = BASE64URL_NOPAD.decode(given.page_token.as_bytes()).expect("base64").len();
    for at in 0..longest {
        let [cursor, token, page_token] =
            [&given.cursor, &given.token, &given.page_token].map(|text| tampered(text, at));
        let shown = Kept { order_id: given.order_id.clone(), cursor, token, page_token };
        // The first bytes name the log; only that log could check more.
        let reason = if (1..5).contains(&at) { FOREIGN } else { MADE_UP };
        is_refused(&rest, &shown, reason, &format!("byte {at}")).await;
    }
}

fn made_up(signer: &Signer, order_id: &str, position: u64) -> Kept {
    let point = LogPoint { position: Position(position), fingerprint: None };
    Kept {
        order_id: order_id.to_owned(),
        cursor: encode_cursor(signer, point),
        token: encode_token(signer, Position(position)),
        page_token: encode_page_token(signer, 0, PageKey { created_at_micros: 0, order_id: 1 }),
    }
}

#[tokio::test]
async fn tokens_signed_with_another_key_are_refused_by_both_apis() {
    let rest = Rest::start().await;
    let given = keep(&rest).await;
    let log = rest.server.store().log_id().expect("a log");
    let forger = Signer::new(log, TokenKey::random().expect("a key"));
    for position in [0, 1, 2, 1 << 50, u64::MAX] {
        is_refused(&rest, &made_up(&forger, &given.order_id, position), MADE_UP, "another key").await;
    }
    let stranger = Signer::new(LogId(1), TokenKey::random().expect("a key"));
    is_refused(&rest, &made_up(&stranger, &given.order_id, 1), FOREIGN, "another log").await;
    is_taken(&rest, &given).await;
}
