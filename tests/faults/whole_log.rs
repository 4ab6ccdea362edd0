//! `ordersystem copy` and `ordersystem verify`, with real stores, real servers, and kills.

mod damage;

use std::{
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ordersystem::{
    backends::embedded::{database::Database, event_store::EmbeddedEventStore},
    codec::{Record, encode},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Change, Item, Items, OrderEvent, Quantity},
        text::{RequestId, Text},
        timestamp::Timestamp,
    },
    ports::event_store::{Commit, CommitId, EventStore, ExpectedRevision, RequestKey, RequestScope, StreamId},
    proto::catga::orders::v1::GetOrderRequest,
};
use tonic::Code;

use crate::{
    load::{create, get_order, new_order, pay, payment, settled},
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    support::{Process, command, run, run_blocking, until},
};

/// The address of a data folder.
fn folder(dir: &Path) -> String {
    format!("embedded:{}", dir.display())
}

fn open(dir: &Path) -> Arc<dyn EventStore> {
    Arc::new(EmbeddedEventStore::new(Database::open(dir).unwrap()))
}

#[track_caller]
fn copy(from: &str, to: &str) -> String {
    let outcome = run_blocking(&["copy", "--from", from, "--to", to]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.stdout
}

#[track_caller]
fn assert_same(one: &str, other: &str) {
    for logs in [&[one][..], &[other], &[one, other]] {
        let outcome = run_blocking(&[&["verify"], logs].concat());
        assert_eq!(outcome.code, Some(0), "{logs:?}: {outcome:?}");
    }
    let counted = |logs: &[&str]| {
        let (_, lines) = findings(logs);
        let result = lines.last().unwrap();
        (result["events"].clone(), result["commits"].clone())
    };
    assert_eq!(counted(&[one, other]), counted(&[one]), "what both have is counted once");
}

/// The output of `verify --json`: its exit code and its lines.
fn findings(logs: &[&str]) -> (i32, Vec<serde_json::Value>) {
    let outcome = run_blocking(&[&["verify", "--json"], logs].concat());
    let lines = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (outcome.code.unwrap_or_else(|| panic!("{outcome:?}")), lines)
}

/// An order with that number, created at that second.
fn created(order: u64, second: i64) -> OrderEvent {
    let price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
    let item = Item {
        product_id: Text::parse("prod-1").unwrap(),
        name: None,
        quantity: Quantity::new(1).unwrap(),
        unit_price: price,
    };
    event(order, second, Change::Created { items: Items::new(vec![item]).unwrap(), shipping_address: None })
}

fn event(order: u64, second: i64, change: Change) -> OrderEvent {
    OrderEvent {
        order_id: OrderId::new(order).unwrap(),
        customer_id: Text::parse("customer-1").unwrap(),
        at: Timestamp::from_micros(second * 1_000_000),
        change,
    }
}

fn paid(order: u64, second: i64) -> OrderEvent {
    event(order, second, Change::Paid { method: Text::parse("card").unwrap(), reference: None })
}

/// A commit of these events after revision `before`, with a request id.
fn commit(before: u64, events: &[OrderEvent], scope: RequestScope) -> Commit {
    let order = events[0].order_id.get();
    let id = format!("request-{order}-{before}");
    let request_id: RequestId = Text::parse(&id).unwrap();
    let encode = |(event, revision)| -> Bytes {
        encode(
            event,
            Record { revision, request_id: Some(&request_id), actor: None, on_behalf_of: None, traceparent: None },
        )
    };
    Commit {
        id: CommitId::random(),
        stream: StreamId(order),
        expected: if before == 0 { ExpectedRevision::NoStream } else { ExpectedRevision::Exactly(before) },
        request: Some(RequestKey { scope, id: id.into(), fingerprint: u128::from(order) << 64 | u128::from(before) }),
        events: events.iter().zip(before + 1..).map(encode).collect(),
    }
}

/// Orders that are created and paid, alternately; some of them in one commit.
fn history(orders: u64) -> Vec<Commit> {
    let mut commits = Vec::new();
    for order in 1..=orders {
        if order % 10 == 0 {
            commits.push(commit(0, &[created(order, 1), paid(order, 2)], RequestScope::Log));
        } else {
            commits.push(commit(0, &[created(order, 1)], RequestScope::Log));
        }
        if let Some(earlier) = order.checked_sub(7).filter(|earlier| *earlier > 0 && earlier % 10 != 0) {
            commits.push(commit(1, &[paid(earlier, 3)], RequestScope::Stream));
        }
    }
    commits
}

/// A folder with a log of so many orders; returns its events.
async fn filled(dir: &Path, orders: u64) -> u64 {
    let store = open(dir);
    let history = history(orders);
    for page in history.chunks(1_000) {
        store.append_all(page.to_vec()).await.unwrap();
    }
    history.iter().map(|commit| commit.events.len() as u64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_copied_through_all_backends_is_the_same_and_knows_its_requests() {
    let (redis, nats) = (RedisServer::start(DURABLE), NatsServer::start(""));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let service = Process::serve_from(dirs[0].path()).await;
    let client = service.commands().await;
    let mut orders = Vec::new();
    for index in 0..40 {
        let request_id = format!("c-{index}");
        let reply = create(&client, new_order("c", &request_id)).await;
        let order_id = reply.order.unwrap().order_id;
        pay(&client, payment(&order_id, &request_id)).await;
        orders.push((request_id, order_id));
    }
    // The service continues meanwhile: its folder is only read.
    let round = [folder(dirs[0].path()), redis.url(), nats.url(), folder(dirs[1].path())];
    for pair in round.windows(2) {
        let said = copy(&pair[0], &pair[1]);
        assert!(said.contains("80 events in 80 commits"), "{said}");
        assert_same(&pair[0], &pair[1]);
        assert!(copy(&pair[0], &pair[1]).contains("0 events in 0 commits"), "a second time there is nothing to do");
    }
    assert_same(&round[0], &round[3]);
    service.kill().await;

    let settings = [
        ["--persistence", "redis", "--redis", &round[1]].map(str::to_owned),
        ["--persistence", "nats", "--nats", &round[2]].map(str::to_owned),
        ["--persistence", "embedded", "--data-dir", dirs[1].path().to_str().unwrap()].map(str::to_owned),
    ];
    for settings in settings {
        let copy = Process::serve(&settings).await;
        let (client, queries) = (copy.commands().await, copy.queries().await);
        for (request_id, order_id) in &orders {
            let again = create(&client, new_order("c", request_id)).await;
            assert_eq!(&again.order.unwrap().order_id, order_id, "{settings:?}: the first answer");
            let again = pay(&client, payment(order_id, request_id)).await;
            assert_eq!(again.order.unwrap().revision, 2);
            let other = settled(&client, new_order("other", request_id), |mut client, request| async move {
                client.create_order(request).await
            })
            .await;
            let other = other.unwrap_err();
            assert_eq!(other.code(), Code::AlreadyExists, "{settings:?}: {other:?}");
            let mut other = payment(order_id, request_id);
            other.payment_method = "cash".to_owned();
            let other =
                settled(&client, other, |mut client, request| async move { client.pay_order(request).await }).await;
            assert_eq!(other.unwrap_err().code(), Code::AlreadyExists);
        }
        let request = GetOrderRequest { order_id: orders[7].1.clone(), ..Default::default() };
        let order = get_order(&queries, request).await.order;
        assert_eq!(order.unwrap().revision, 2);
        // It continues like any log.
        create(&client, new_order("c", "after-the-copy")).await;
        copy.kill().await;
    }
    let (code, lines) = findings(&[&round[0], &round[1]]);
    assert_eq!((code, lines[0]["kind"].as_str()), (1, Some("difference")), "the copy has gone on: {lines:?}");
}

/// The bytes of all files in a folder and below.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().map_or(0, |file| file.len()) }
        })
        .sum()
}

/// Copies, and kills the copy [`KILLS`] times, each time when its target's files have grown by a random part of the total.
fn copy_with_kills(from: &str, to: &str, target: &Path, random: &mut fastrand::Rng) -> u64 {
    const KILLS: u64 = 6;
    let mut kills = 0;
    loop {
        let start = bytes_in(target);
        // 12 000 orders are more than 1.5 MB on every store: the last kill comes before the end of the copy.
        let growth = random.u64(1..200_000);
        let mut copy = command();
        copy.args(["copy", "--from", from, "--to", to]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut copy = copy.spawn().unwrap();
        while kills < KILLS && copy.try_wait().unwrap().is_none() && bytes_in(target) < start + growth {
            std::thread::sleep(Duration::from_millis(1));
        }
        if kills < KILLS && copy.try_wait().unwrap().is_none() {
            copy.kill().unwrap();
        }
        let output: Output = copy.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => return kills,
            None => kills += 1,
            Some(_) => panic!("{output:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_killed_at_random_moments_resumes_where_it_was() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (redis, nats) = (RedisServer::start(DURABLE), NatsServer::start(""));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    filled(dirs[0].path(), 12_000).await;
    let source = folder(dirs[0].path());
    let targets = [
        (folder(dirs[1].path()), dirs[1].path()),
        (redis.url(), redis.folder.path()),
        (nats.url(), nats.folder.path()),
    ];
    for (target, files) in targets {
        let kills = copy_with_kills(&source, &target, files, &mut random);
        println!("{target}: {kills} kills");
        assert!(kills > 0, "seed {seed}");
        assert_same(&source, &target);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_continues_through_a_crash_of_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 12_000).await;
    let source = folder(dir.path());
    let (mut redis, mut nats) = (RedisServer::start(DURABLE), NatsServer::start(""));
    for (target, is_redis) in [(redis.url(), true), (nats.url(), false)] {
        let mut running = command();
        running.args(["copy", "--from", &source, "--to", &target]).stdout(Stdio::null()).stderr(Stdio::piped());
        let running = running.spawn().unwrap();
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(600));
            if is_redis {
                redis.kill()
            } else {
                nats.kill()
            }
            std::thread::sleep(Duration::from_millis(300));
            if is_redis { redis.start_again() } else { nats.start_again() }
        }
        let output = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
        let output = tokio::time::timeout(Duration::from_secs(120), output).await.expect("it ends").unwrap();
        // If it is killed immediately, before it has seen the log, it may end; then the next run continues.
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            copy(&source, &target);
        }
        assert_same(&source, &target);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_not_a_copy_is_refused_with_the_position_and_left_unchanged() {
    let (redis, nats) = (RedisServer::start(DURABLE), NatsServer::start(""));
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    filled(dirs[0].path(), 50).await;
    let source = folder(dirs[0].path());
    let refused = |to: &str, words: &[&str]| {
        let outcome = run_blocking(&["copy", "--from", &source, "--to", to]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word:?} is not in {:?}", outcome.stderr);
        }
    };

    // Another order after the first ten commits.
    let store = open(dirs[1].path());
    let mut other = history(50);
    other.truncate(10);
    other.push(commit(0, &[created(9_999, 1)], RequestScope::Log));
    store.append_all(other).await.unwrap();
    let head = store.head().await.unwrap();
    drop(store);
    // Ten commits, one of them of two events: the eleventh begins at position 11 or 12.
    refused(&folder(dirs[1].path()), &["the target differs from the source at position 1", "order 9999"]);
    assert_eq!(open(dirs[1].path()).head().await.unwrap(), head);

    // The same, and more.
    filled(dirs[2].path(), 51).await;
    refused(&folder(dirs[2].path()), &["the target has more events, from position", "than the source"]);

    // The same order with another payload of its request, on a broker.
    let wrong = tempfile::tempdir().unwrap();
    let mut changed = history(3);
    if let Some(request) = &mut changed[1].request {
        request.fingerprint ^= 1;
    }
    open(wrong.path()).append_all(changed).await.unwrap();
    for target in [redis.url(), nats.url()] {
        copy(&folder(wrong.path()), &target);
        refused(&target, &["position 2", "order 2", "request-2-0"]);
    }
    refused(&source, &["the same log"]);

    // In use by a service.
    let service = Process::serve_from(dirs[3].path()).await;
    refused(&folder(dirs[3].path()), &["in use by process", &service.pid().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_copy_gets_every_acknowledged_command_until_it_is_stopped() {
    let (redis, dir) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    let service = Process::serve_from(dir.path()).await;
    let (source, target) = (folder(dir.path()), redis.url());
    let mut follow = command();
    follow.args(["copy", "--follow", "--from", &source, "--to", &target]);
    let follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut client = service.commands().await;
    for index in 0..100 {
        client.create_order(new_order("c", &format!("c-{index}"))).await.unwrap();
    }
    let length = || redis.cli(&["XLEN", "{ordersystem}:log"]);
    until("100 events are there", async || length() == "100").await;
    let sent = std::process::Command::new("kill").args(["-INT", &follow.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = follow.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("100 events in 100 commits"));
    assert_same(&source, &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_is_not_an_empty_log_and_reading_creates_nothing() {
    let (redis, nats, dir) = (RedisServer::start(DURABLE), NatsServer::start(""), tempfile::tempdir().unwrap());
    for log in [redis.url(), nats.url(), folder(dir.path())] {
        let outcome = run(&["verify", &log]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let error = &outcome.stderr;
        assert!(error.starts_with("error: ") && error.contains("there is no"), "{error}");
    }
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    for stream in ["ordersystem-log", "ordersystem-requests"] {
        assert!(nats.raw().await.get_stream(stream).await.is_err(), "{stream} was made");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    for wrong in [
        &["verify"][..],
        &["verify", "sqlite:x"],
        &["verify", "embedded:x", "--prefix", "p"],
        &["copy", "--from", "redis:x"],
    ] {
        assert_eq!(run(wrong).await.code, Some(2), "{wrong:?}");
    }
}
