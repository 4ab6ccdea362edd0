//! Every kind of damage, caused by an independent client, is found where it is.

use ordersystem::{
    backends::embedded::read_model::EmbeddedReadModel,
    ports::{
        event_store::{Direction, Position},
        read_model::{LogCheckpoint, ReadModel},
    },
    processors::projections::row_change,
};
use rusqlite::Connection;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::*;

/// A log of three orders: 1 and 2 are created and paid, 3 is created; positions 1 to 5.
fn five_events() -> Vec<Commit> {
    vec![
        commit(0, &[created(1, 1)], RequestScope::Log),
        commit(0, &[created(2, 1)], RequestScope::Log),
        commit(1, &[paid(1, 2)], RequestScope::Stream),
        commit(1, &[paid(2, 2)], RequestScope::Stream),
        commit(0, &[created(3, 1)], RequestScope::Log),
    ]
}

fn sql(dir: &Path, statement: &str) {
    let connection = Connection::open(dir.join("orders.db")).unwrap();
    assert!(connection.execute(statement, []).unwrap() > 0, "{statement}");
}

/// Replaces an event by these bytes, with a matching checksum.
fn replace(dir: &Path, position: u64, stream: u64, revision: u64, payload: &[u8]) {
    let place: Vec<u8> = [stream, revision, position].iter().flat_map(|number| number.to_le_bytes()).collect();
    let checksum = xxh3_64_with_seed(payload, xxh3_64(&place)).cast_signed();
    let connection = Connection::open(dir.join("orders.db")).unwrap();
    let changed = connection.execute(
        "UPDATE log SET stream = ?2, revision = ?3, checksum = ?4, payload = ?5 WHERE position = ?1",
        rusqlite::params![position.cast_signed(), stream.cast_signed(), revision.cast_signed(), checksum, payload],
    );
    assert_eq!(changed.unwrap(), 1);
}

#[track_caller]
fn assert_found(lines: &[serde_json::Value], kind: &str, position: Option<u64>, words: &str) {
    let position = position.map(|position| position.to_string());
    let is_it = |line: &&serde_json::Value| {
        line["kind"] == kind
            && line["position"].as_str() == position.as_deref()
            && line["detail"].as_str().is_some_and(|detail| detail.contains(words))
    };
    assert!(lines.iter().any(|line| is_it(&line)), "no {kind} at {position:?} with {words:?} in {lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_each_kind_of_damage_in_a_folder_and_its_position() {
    let request = |order: u64, before: u64| -> RequestId { Text::parse(&format!("request-{order}-{before}")).unwrap() };
    let bytes = |event: &OrderEvent, revision: u64, request_id: &RequestId| {
        encode(
            event,
            Record { revision, request_id: Some(request_id), actor: None, on_behalf_of: None, traceparent: None },
        )
    };
    type Damage = Box<dyn Fn(&Path)>;
    let cases: Vec<(Damage, &str, Option<u64>, &str)> = vec![
        (
            Box::new(|dir| sql(dir, "UPDATE log SET payload = x'00' WHERE position = 3")),
            "unreadable",
            None,
            "position 3",
        ),
        (Box::new(|dir| sql(dir, "DELETE FROM log WHERE position = 2")), "unreadable", None, "2 is missing"),
        // Revision 1 of order 2 is missing as well.
        (Box::new(|dir| sql(dir, "DELETE FROM log WHERE position = 2")), "revision", Some(4), "revision 1 must follow"),
        (Box::new(|dir| replace(dir, 3, 1, 2, b"nonsense")), "undecodable", Some(3), "damaged"),
        (
            Box::new(move |dir| replace(dir, 3, 1, 2, &bytes(&paid(2, 2), 2, &request(1, 1)))),
            "misplaced",
            Some(3),
            "revision 2 of order 2",
        ),
        (
            Box::new(move |dir| replace(dir, 5, 3, 1, &bytes(&paid(3, 2), 1, &request(3, 0)))),
            "beginning",
            Some(5),
            "begins with OrderPaid",
        ),
        (
            Box::new(move |dir| replace(dir, 3, 1, 2, &bytes(&event(1, 2, Change::Delivered), 2, &request(1, 1)))),
            "transition",
            Some(3),
            "OrderDelivered does not follow",
        ),
        (
            Box::new(move |dir| replace(dir, 4, 1, 3, &bytes(&paid(1, 1), 3, &request(2, 1)))),
            "transition",
            Some(4),
            "OrderPaid does not follow",
        ),
        (Box::new(|dir| sql(dir, "DELETE FROM requests WHERE position = 3")), "request", Some(3), "'request-1-1'"),
        (
            Box::new(|dir| sql(dir, "UPDATE requests SET fingerprint = zeroblob(16) WHERE position = 3")),
            "unreadable",
            None,
            "request-1-1",
        ),
        (Box::new(|dir| sql(dir, "INSERT INTO commits VALUES (3, 2)")), "unreadable", None, "not whole"),
    ];
    for (damage, kind, position, words) in cases {
        let folder_of_it = tempfile::tempdir().unwrap();
        let dir = folder_of_it.path();
        open(dir).append_all(five_events()).await.unwrap();
        let log = folder(dir);
        let (code, lines) = findings(&[&log]);
        assert_eq!((code, lines.len()), (0, 1), "undamaged: {lines:?}");
        assert_eq!((&lines[0]["ok"], &lines[0]["events"], &lines[0]["orders"]), (&true.into(), &5.into(), &3.into()));
        damage(dir);
        let (code, lines) = findings(&[&log]);
        assert_eq!(code, 1, "{kind} {words}: {lines:?}");
        assert_found(&lines, kind, position, words);
        assert_eq!(lines.last().unwrap()["ok"], false);
        // The readable part after it was checked.
        assert!(lines.last().unwrap()["events"].as_u64().unwrap() >= 2, "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_holds_the_list_of_orders_of_a_folder_against_its_log() {
    for (damage, position, words) in [
        ("UPDATE orders SET status = 5 WHERE id = 1", None, "its row in the read model does not match its events"),
        ("UPDATE orders SET customer = 'another' WHERE id = 3", None, "does not match its events"),
        ("UPDATE orders SET amount = amount + 1 WHERE id = 3", None, "its rows are 1 of 101"),
        ("DELETE FROM orders WHERE id = 3", None, "has no row in the read model"),
        (
            "INSERT INTO orders SELECT 4, customer, status, created_at, updated_at, amount, currency, item_count, revision \
             FROM orders WHERE id = 3",
            None,
            "has a row in the read model, but no event",
        ),
        ("UPDATE totals SET count = 7 WHERE status = 2", None, "is 7 orders of 200, but its rows are 2 of 200"),
        ("DELETE FROM totals WHERE status = 2", None, "the total of status 2 in USD is missing"),
        (
            "UPDATE read_models SET event = event + 1 WHERE is_served = 1",
            Some(5),
            "is not the last one that the read model",
        ),
        ("UPDATE read_models SET log = 4711 WHERE is_served = 1", None, "belongs to log 4711"),
    ] {
        let folder_of_it = tempfile::tempdir().unwrap();
        let dir = folder_of_it.path();
        {
            let database = Database::open(dir).unwrap();
            let store = EmbeddedEventStore::new(Arc::clone(&database));
            store.append_all(five_events()).await.unwrap();
            let list = EmbeddedReadModel::new(database);
            for event in store.read_log(Position(0), Direction::Forward, 100).await.unwrap() {
                let place = LogCheckpoint::after(store.log_id().unwrap(), &event);
                list.apply(vec![row_change(&event).unwrap()], place).await.unwrap();
            }
        }
        let log = folder(dir);
        let (code, lines) = findings(&[&log]);
        assert_eq!((code, lines.len()), (0, 1), "undamaged: {lines:?}");
        sql(dir, damage);
        let (code, lines) = findings(&[&log]);
        assert_eq!(code, 1, "{damage}: {lines:?}");
        assert_found(&lines, "row", position, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_damage_in_redis() {
    let cases: [(&[&str], &str, Option<u64>, &str); 6] = [
        (&["XDEL", "{ordersystem}:log", "0-3"], "stream", Some(4), "order 2"),
        (&["XDEL", "{ordersystem}:log", "0-2"], "revision", Some(4), "revision 1 must follow"),
        (&["RPOP", "{ordersystem}:order:2"], "stream", Some(4), "does not have the event"),
        (&["DEL", "{ordersystem}:request:request-2-0"], "request", Some(2), "request-2-0"),
        (
            &["HSET", "{ordersystem}:requests:1", "request-1-1", "00000000000000000000000000000007 1 1 2"],
            "request",
            Some(3),
            "another payload",
        ),
        (&["XADD", "{ordersystem}:log", "0-*", "r", "1", "e", "nonsense", "q", ""], "unreadable", None, "0-6"),
    ];
    let (redis, dir) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    open(dir.path()).append_all(five_events()).await.unwrap();
    for (damage, kind, position, words) in cases {
        redis.cli(&["FLUSHALL"]);
        copy(&folder(dir.path()), &redis.url());
        assert_eq!(findings(&[&redis.url()]).0, 0);
        let said = redis.cli(damage);
        assert!(!said.contains("ERR"), "{damage:?}: {said}");
        let (code, lines) = findings(&[&redis.url()]);
        // A missing event only shows in that it is not found: order 1 ends with its first one.
        if damage[0] == "XDEL" && kind == "stream" {
            assert_eq!(findings(&[&folder(dir.path()), &redis.url()]).0, 1, "compared, it is missed");
            continue;
        }
        assert_eq!(code, 1, "{damage:?}");
        assert_found(&lines, kind, position, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_damage_in_nats() {
    let (nats, dir) = (NatsServer::start(""), tempfile::tempdir().unwrap());
    open(dir.path()).append_all(five_events()).await.unwrap();
    let (source, target) = (folder(dir.path()), nats.url());
    copy(&source, &target);
    assert_eq!(findings(&[&target]).0, 0);
    let raw = nats.raw().await;
    // Another commit's reservation in place of one, and a message that is not a reservation after all others.
    let requests = raw.get_stream("ordersystem-requests").await.unwrap();
    let (first, second) = (requests.get_raw_message(1).await.unwrap(), requests.get_raw_message(2).await.unwrap());
    raw.publish(second.subject.clone(), first.payload.clone()).await.unwrap().await.unwrap();
    raw.publish("ordersystem.log.77", "nonsense".into()).await.unwrap().await.unwrap();
    let (code, lines) = findings(&[&target]);
    assert_eq!(code, 1);
    assert_found(&lines, "unreadable", None, "message 7");
    assert_found(&lines, "request", Some(3 << 8 | 255), "request-2-0");
    assert_eq!(findings(&[&source, &target]).0, 1, "unreadable, compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_differ_in_bytes_requests_boundaries_or_order_are_distinguished() {
    let change = |change: fn(&mut Vec<Commit>)| {
        let mut commits = five_events();
        change(&mut commits);
        commits
    };
    let cases: Vec<(Vec<Commit>, Option<u64>, &str)> = vec![
        (change(|commits| commits[2].events[0] = b"other"[..].into()), Some(3), "bytes"),
        (change(|commits| commits[2].request = None), Some(3), "request-1-1"),
        (change(|commits| commits.swap(0, 1)), Some(1), "order 2"),
        (
            change(|commits| {
                let event = commits.remove(2).events.remove(0);
                commits[0].events.push(event);
            }),
            Some(1),
            "1 events in the first log and 2",
        ),
        (change(|commits| commits.truncate(4)), Some(5), "ends before"),
    ];
    let one = tempfile::tempdir().unwrap();
    open(one.path()).append_all(five_events()).await.unwrap();
    for (commits, position, words) in cases {
        let other = tempfile::tempdir().unwrap();
        open(other.path()).append_all(commits).await.unwrap();
        let (code, lines) = findings(&[&folder(one.path()), &folder(other.path())]);
        assert_eq!(code, 1, "{words}");
        assert_found(&lines, "difference", position, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_entries_deleted_from_a_log_in_redis() {
    let server = RedisServer::start(DURABLE);
    let key = "{ordersystem}:log";
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append_all(five_events()).await.unwrap();
    let redis = server.url();
    for (damage, missing, orders, left) in [
        (&["XDEL", key, "0-1"][..], "the entry 0-1 of the log is missing", &[("order 1", 1)][..], 4),
        (&["XDEL", key, "0-4"], "the entry 0-4 of the log is missing", &[("order 2", 4)], 4),
        (&["XDEL", key, "0-5"], "the entry 0-5 of the log is missing", &[("order 3", 5)], 4),
        (&["XDEL", key, "0-2", "0-4"], "the entry 0-2 of the log is missing", &[("order 2", 2)], 3),
        (&["XTRIM", key, "MAXLEN", "2"], "the entry 0-1 of the log is missing", &[("order 1", 1), ("order 2", 2)], 2),
        (&["DEL", key], "", &[("order 1", 1), ("order 2", 2), ("order 3", 5)], 0),
    ] {
        copy(&folder(dir.path()), &redis);
        server.cli(damage);
        let (code, lines) = findings(&[&redis]);
        assert_eq!(code, 1, "{damage:?}: {lines:#?}");
        if !missing.is_empty() {
            assert_found(&lines, "unreadable", None, missing);
        }
        for (order, position) in orders {
            assert_found(&lines, "stream", Some(*position), order);
        }
        assert_eq!(lines.last().unwrap()["events"], left, "{damage:?}: all that are there are looked at: {lines:#?}");
        server.cli(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_continues_after_many_unreadable_messages() {
    let nats = NatsServer::start("");
    let store = nats.store_of("ordersystem").await;
    let mut commits = five_events();
    let last = commits.pop().unwrap();
    store.append_all(commits).await.unwrap();
    let raw = nats.raw().await;
    for _ in 0..20 {
        raw.publish("ordersystem.log.77", "nonsense".into()).await.unwrap().await.unwrap();
    }
    store.append(last).await.unwrap();
    let (code, lines) = findings(&[&nats.url()]);
    assert_eq!(code, 1);
    assert_eq!(lines.last().unwrap()["events"], 5, "the event behind them as well: {lines:?}");
}
