//! Dead letters: over gRPC, and with `ordersystem dead-letters` from outside.

use std::{collections::HashSet, process::Stdio, sync::Arc};

use ordersystem::{
    node::{Backends, NodeBuilder},
    proto::catga::system::v1::{
        DeadLetter, DiscardDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
    },
};
use tonic::Code;

use crate::{
    subscriptions::Noting,
    support::{Meta, Step, TestServer, code_and_reason, facts, give, until, violated_fields},
};

/// A node whose handler "mail" has rejected the payments of `orders` orders, in this order.
async fn node_with_dead_letters(orders: usize) -> (TestServer, Arc<Noting>, Vec<String>) {
    let mail = Noting::new("mail");
    mail.reject(|event| event.kind() == "OrderPaid");
    let server = TestServer::start_as(&[], NodeBuilder::new(Backends::memory()).with_handler(mail.clone())).await;
    let client = server.commands().await;
    let mut events = Vec::new();
    for _ in 0..orders {
        let id = server.place_order("customer-1").await.order_id;
        give(&client, Step::Pay, &id, Meta::default()).await.expect("accepted");
        events.push(format!("{id}-2"));
    }
    until("given up", async || (list(&server, 500).await.len() == orders).then_some(())).await;
    (server, mail, events)
}

/// All letters of "mail", in pages of `page_size`.
async fn list(server: &TestServer, page_size: i32) -> Vec<DeadLetter> {
    let mut client = server.admin().await;
    let (mut letters, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListDeadLettersRequest { handler: "mail".to_owned(), page_size, page_token };
        let page = client.list_dead_letters(request).await.expect("answered").into_inner();
        assert!(page.dead_letters.len() <= page_size as usize);
        letters.extend(page.dead_letters);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return letters;
        }
    }
}

#[tokio::test]
async fn dead_letters_are_listed_page_by_page_the_oldest_first() {
    let (server, _, events) = node_with_dead_letters(7).await;
    for page_size in [1, 3, 7, 500] {
        let listed: Vec<_> = list(&server, page_size).await.into_iter().map(|letter| letter.event_id).collect();
        assert_eq!(listed, events, "{page_size}");
    }
    let letter = list(&server, 500).await.swap_remove(0);
    assert_eq!(format!("{}-{}", letter.order_id, letter.revision), letter.event_id);
    assert_eq!((letter.r#type.as_str(), letter.attempts), ("OrderPaid", 1));
    assert_eq!(letter.reason, "mail does not want\nOrderPaid");
    assert!(letter.dead_lettered_at.is_some_and(|at| at.seconds > 1_700_000_000));
}

#[tokio::test]
async fn a_letter_removed_between_two_pages_does_not_hide_any_of_the_rest() {
    let (server, _, events) = node_with_dead_letters(9).await;
    let mut client = server.admin().await;
    let request = |page_token| ListDeadLettersRequest { handler: "mail".to_owned(), page_size: 3, page_token };
    let first = client.list_dead_letters(request(String::new())).await.expect("answered").into_inner();
    // The last letter of the page, after which the next page starts, and one before it.
    let event_ids = vec![events[0].clone(), events[2].clone()];
    let gone = DiscardDeadLettersRequest { handler: "mail".to_owned(), event_ids, all: false };
    assert_eq!(client.discard_dead_letters(gone).await.expect("answered").into_inner().discarded, 2);
    let second = client.list_dead_letters(request(first.next_page_token)).await.expect("answered").into_inner();
    let third = client.list_dead_letters(request(second.next_page_token)).await.expect("answered").into_inner();
    let rest: HashSet<_> =
        second.dead_letters.into_iter().chain(third.dead_letters).map(|letter| letter.event_id).collect();
    assert!(events[3..].iter().all(|event| rest.contains(event)), "{rest:?}");
}

#[tokio::test]
async fn a_replayed_letter_is_handled_or_returns_and_a_discarded_one_does_not() {
    let (server, mail, events) = node_with_dead_letters(4).await;
    let mut client = server.admin().await;
    let handler = || "mail".to_owned();
    // One of them twice, and one that does not exist: each counts at most once.
    let event_ids = vec![events[0].clone(), events[0].clone(), "5-5".to_owned()];
    mail.reject(|_| false);
    let request = ReplayDeadLettersRequest { handler: handler(), event_ids, all: false };
    assert_eq!(client.replay_dead_letters(request).await.expect("answered").into_inner().replayed, 1);
    mail.until_seen(5).await;
    assert_eq!(mail.seen.lock().unwrap()[4].to_string(), events[0]);
    mail.reject(|_| true);
    let all = ReplayDeadLettersRequest { handler: handler(), event_ids: Vec::new(), all: true };
    assert_eq!(client.replay_dead_letters(all).await.expect("answered").into_inner().replayed, 3);
    until("all are back", async || (list(&server, 500).await.len() == 3).then_some(())).await;
    assert_eq!(server.health("subscriptions").await.0, "Degraded");
    let all = DiscardDeadLettersRequest { handler: handler(), event_ids: Vec::new(), all: true };
    assert_eq!(client.discard_dead_letters(all).await.expect("answered").into_inner().discarded, 3);
    assert!(list(&server, 500).await.is_empty());
    assert_eq!(server.health("subscriptions").await.0, "Healthy");
}

#[tokio::test]
async fn invalid_requests_about_dead_letters_are_refused_with_the_violation() {
    let (server, ..) = node_with_dead_letters(1).await;
    let mut client = server.admin().await;
    let request = ListDeadLettersRequest { handler: "nobody".to_owned(), ..Default::default() };
    let refusal = client.list_dead_letters(request).await.expect_err("unknown");
    assert_eq!(code_and_reason(&refusal), (Code::NotFound, "HANDLER_NOT_FOUND".to_owned()));
    assert_eq!(facts(&refusal)["known_handlers"], "order-event-logger,mail");
    for (page_size, page_token, field) in
        [(-1, "", "page_size"), (501, "", "page_size"), (0, "x", "page_token"), (0, "1.2-3.4.5", "page_token")]
    {
        let page_token = page_token.to_owned();
        let request = ListDeadLettersRequest { handler: "mail".to_owned(), page_size, page_token };
        let refusal = client.list_dead_letters(request).await.expect_err("refused");
        assert_eq!((refusal.code(), violated_fields(&refusal)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let many = vec!["1-1".to_owned(); 1_001];
    for (event_ids, all, field) in [
        (vec![], false, "event_ids"),
        (vec!["1-1".to_owned()], true, "all"),
        (vec!["1-1".to_owned(), "1-+1".to_owned()], false, "event_ids[1]"),
        (many, false, "event_ids"),
    ] {
        let handler = "mail".to_owned();
        let request = DiscardDeadLettersRequest { handler: handler.clone(), event_ids: event_ids.clone(), all };
        let refusal = client.discard_dead_letters(request).await.expect_err("refused");
        assert_eq!((refusal.code(), violated_fields(&refusal)), (Code::InvalidArgument, vec![field.to_owned()]));
        let refusal = client.replay_dead_letters(ReplayDeadLettersRequest { handler, event_ids, all }).await;
        assert_eq!(violated_fields(&refusal.expect_err("refused")), [field]);
    }
    assert_eq!(list(&server, 500).await.len(), 1);
}

/// Runs `ordersystem dead-letters` against the node; returns exit code, standard output and standard error.
async fn dead_letters(server: &TestServer, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ordersystem"));
    command.env_clear().stdin(Stdio::null()).arg("dead-letters").args(args);
    let output = command.arg("--address").arg(server.address.to_string()).output().await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_program_lists_replays_and_discards_the_dead_letters_of_a_running_node() {
    let (server, mail, events) = node_with_dead_letters(3).await;
    let (code, table, error) = dead_letters(&server, &["list", "mail"]).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["EVENT", "ID", "KIND", "ORDER", "ATTEMPTS", "TIME", "REASON"]
    );
    assert_eq!(lines.len(), 4, "{table}");
    for (line, event) in lines[1..].iter().zip(&events) {
        assert!(line.starts_with(event.as_str()) && line.ends_with("mail does not want OrderPaid"), "{line}");
    }
    let (_, json, _) = dead_letters(&server, &["list", "mail", "--json"]).await;
    let objects: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((objects.len(), objects[1]["eventId"].as_str()), (3, Some(events[1].as_str())));
    assert_eq!(objects[0]["reason"], "mail does not want\nOrderPaid");

    mail.reject(|_| false);
    let (code, said, error) = dead_letters(&server, &["replay", "mail", &events[0], "7-7"]).await;
    assert_eq!((code, said.as_str()), (Some(1), "replayed: 1\n"));
    assert_eq!(error, "error: mail has no dead letters for the other named events\n");
    mail.until_seen(4).await;
    let outcome = dead_letters(&server, &["discard", "mail", &events[1]]).await;
    assert_eq!(outcome, (Some(0), "discarded: 1\n".to_owned(), String::new()));
    let outcome = dead_letters(&server, &["replay", "mail", "--all"]).await;
    assert_eq!(outcome, (Some(0), "replayed: 1\n".to_owned(), String::new()));
    mail.until_seen(5).await;
    assert_eq!(dead_letters(&server, &["list", "mail"]).await.1.lines().count(), 1, "the head and nothing below it");

    let (code, _, error) = dead_letters(&server, &["list", "nobody"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("there is no handler \"nobody\"; this node has order-event-logger, mail"), "{error}");
    for wrong in
        [&["list"][..], &["replay", "mail"], &["replay", "mail", "1-1", "--all"], &["discard", "mail", "1_1"], &[]]
    {
        let (code, said, error) = dead_letters(&server, wrong).await;
        assert_eq!((code, said.as_str()), (Some(2), ""), "{wrong:?}: {error}");
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
    }
}
