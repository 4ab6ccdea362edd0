//! Authentication and trust between NATS and a node, the permissions that a user needs, and the errors where they are missing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use ordersystem::{
    backends::nats::{
        checkpoint_store::NatsCheckpointStore,
        connection::{ConnectError, Nats, NatsAccess, NatsOptions},
        event_store::NatsEventStore,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::{
            AppendError, Commit, CommitId, EventStore, ExpectedRevision, Position, RequestKey, RequestScope,
            StoreError, StreamId,
        },
        lease_store::LeaseStore,
        message_bus::MessageBus,
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    nats_bus::{message, receive},
    nats_server::{NatsServer, fresh_prefix},
};

/// Everything that a node stores in NATS works.
async fn all_works(options: NatsOptions) {
    let nats = Nats::start(options).await.unwrap();
    nats.connected().await.expect("it is accepted");
    let store = NatsEventStore::new(nats.clone());
    store.until_verified().await.unwrap();
    let commit = Commit {
        id: CommitId::random(),
        stream: StreamId(7),
        expected: ExpectedRevision::NoStream,
        request: None,
        events: vec![Bytes::from_static(b"an event")],
    };
    store.append(commit).await.unwrap();
    let read =
        store.read_stream(StreamId(7), 1, ordersystem::ports::event_store::Direction::Forward, 10).await.unwrap();
    assert_eq!(read.len(), 1);
    store.check().await.unwrap();
    let (leases, checkpoints) = (NatsLeaseStore::new(nats.clone()), NatsCheckpointStore::new(nats.clone()));
    let lease = leases.acquire("outbox", "node-1", Duration::from_secs(60)).await.unwrap().unwrap();
    let checkpoint = Checkpoint::at(Position(1).into(), lease.fencing_token);
    checkpoints.save("outbox", checkpoint).await.unwrap();
    // Small, so that handled messages have to be dropped.
    let bus = NatsMessageBus::new(nats, NatsBusOptions { capacity_messages: 64, ..NatsBusOptions::default() });
    bus.verify().await.unwrap();
    let consumer = bus.consumer("log").await.unwrap();
    for round in 0..3 {
        let sent: Vec<_> = (1..=40).map(|sequence| message(1, round * 40 + sequence)).collect();
        bus.publish(&sent).await.unwrap();
        let received = receive(&*consumer, 40).await;
        if round == 0 {
            consumer.dead_letter(&received[0], "no luck").await.unwrap();
            bus.replay("log", &[received[0].message.event_id()]).await.unwrap();
            let again = receive(&*consumer, 1).await;
            consumer.ack(&[again[0].receipt]).await.unwrap();
        }
        consumer.ack(&received.iter().map(|delivery| delivery.receipt).collect::<Vec<_>>()).await.unwrap();
    }
    bus.check().await.unwrap();
    bus.remove_consumer("log").await.unwrap();
}

/// Waits for a connection, and returns why there is none.
async fn refusal(options: NatsOptions) -> String {
    let nats = Nats::start(options).await.unwrap();
    let give_up_at = Instant::now() + Duration::from_secs(30);
    loop {
        match nats.connected().await {
            Err(ConnectError::Fatal(why)) => return why,
            // The error of the first attempt is known after the second.
            Err(ConnectError::Retryable(why))
                if ["127.0.0.1:", "localhost:"].iter().any(|host| why.contains(host))
                    || Instant::now() >= give_up_at =>
            {
                return why;
            }
            Err(ConnectError::Retryable(_)) => sleep(Duration::from_millis(50)).await,
            Ok(()) => panic!("it is accepted"),
        }
    }
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A JWT in the format of NATS, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = json!({
        "jti": "TESTTESTTESTTESTTESTTESTTESTTESTTESTTESTTESTTESTTEST", "iat": 1_700_000_000, "name": name,
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": nats,
    });
    let signed = format!("{header}.{}", part(&claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

fn account(issuer: &KeyPair, account: &KeyPair, name: &str, disk_storage: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": disk_storage, "disk_storage": disk_storage, "streams": disk_storage, "consumer": disk_storage,
    });
    jwt(issuer, account, name, &json!({ "type": "account", "version": 2, "limits": limits }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_log_in_with_a_credentials_file_where_an_operator_signs_accounts() {
    let [operator, system, orders, user, stranger] = [
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
        KeyPair::new_user(),
    ];
    let signed = jwt(&operator, &operator, "operator", &json!({ "type": "operator", "version": 2 }));
    let settings = format!(
        "operator: {signed}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        system.public_key(),
        system.public_key(),
        account(&operator, &system, "SYS", 0),
        orders.public_key(),
        account(&operator, &orders, "ORDERS", -1),
    );
    let server = NatsServer::start_current(&settings);
    let folder = tempfile::tempdir().unwrap();
    let credentials = |key: &KeyPair| {
        let limits = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(&orders, &user, "ordersystem", &limits),
            key.seed().unwrap()
        )
    };
    let with = |credentials| NatsOptions {
        access: NatsAccess { credentials: Some(credentials), ..NatsAccess::default() },
        ..server.options(&fresh_prefix())
    };
    all_works(with(file(&folder, "good.creds", &credentials(&user)))).await;
    let refused = refusal(with(file(&folder, "bad.creds", &credentials(&stranger)))).await;
    assert!(refused.contains("authorization violation"), "{refused}");
    assert!(!refused.contains(&stranger.seed().unwrap()), "a seed is never told");
    let refused = refusal(server.options(&fresh_prefix())).await;
    assert!(refused.contains("authorization violation"), "{refused}");
    for (credentials, says) in [
        (folder.path().join("none.creds"), "none.creds cannot be read"),
        (file(&folder, "empty.creds", "nothing\n"), "empty.creds is not a credentials file"),
    ] {
        let why = Nats::start(with(credentials)).await.unwrap_err();
        assert!(why.starts_with("nats-credentials: ") && why.contains(says), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_log_in_with_the_seed_of_an_nkey() {
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let settings = format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key());
    let folder = tempfile::tempdir().unwrap();
    for server in [NatsServer::start(&settings), NatsServer::start_current(&settings)] {
        let with = |nkey| NatsOptions {
            access: NatsAccess { nkey: Some(nkey), ..NatsAccess::default() },
            ..server.options(&fresh_prefix())
        };
        let seed = |key: &KeyPair| format!("# for the orders\n{}\n", key.seed().unwrap());
        all_works(with(file(&folder, "good.nk", &seed(&user)))).await;
        let refused = refusal(with(file(&folder, "bad.nk", &seed(&stranger)))).await;
        assert!(refused.contains("authorization violation") && refused.contains("--nats-nkey"), "{refused}");
        let why = Nats::start(with(file(&folder, "empty.nk", "\n"))).await.unwrap_err();
        assert!(why.starts_with("nats-nkey: ") && why.contains("holds no seed"), "{why}");
    }
}

/// An authority with the files of a server and a client, `ca.pem`, `server.pem`, `server.key`, …
fn authority() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority for tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    file(&folder, "ca.pem", &issuer.pem());
    for (name, host) in [("server", "127.0.0.1"), ("client", "ordersystem")] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        file(&folder, &format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
        file(&folder, &format!("{name}.key"), &key.serialize_pem());
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_private_authority_is_trusted_if_that_is_named_and_shown_a_certificate_if_it_asks_for_one() {
    let folder = authority();
    let path = |name: &str| folder.path().join(name);
    let tls = |verify: bool| {
        let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| path(name).display().to_string());
        format!(
            "tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {verify}, timeout: 10 }}"
        )
    };
    let with = |server: &NatsServer, access| NatsOptions { access, ..server.options(&fresh_prefix()) };
    let ca = || NatsAccess { ca: Some(path("ca.pem")), ..NatsAccess::default() };
    let server = NatsServer::start_current(&tls(false));
    all_works(with(&server, ca())).await;
    let refused = refusal(with(&server, NatsAccess::default())).await;
    assert!(refused.contains("not signed by a trusted authority (--nats-ca FILE)"), "{refused}");
    let why = Nats::start(with(&server, NatsAccess { ca: Some(path("none.pem")), ..ca() })).await.unwrap_err();
    assert!(why.starts_with("nats-ca: ") && why.contains("none.pem cannot be read"), "{why}");

    // Contacted by a name that is not in its certificate; and TLS requested from a server without it.
    let elsewhere = NatsOptions { url: format!("nats://localhost:{}", server.port), ..with(&server, ca()) };
    let refused = refusal(elsewhere).await;
    assert!(refused.contains("for another name") && !refused.contains("NotValidForName"), "{refused}");
    let plain = NatsServer::start("");
    let refused = refusal(NatsOptions { url: format!("tls://127.0.0.1:{}", plain.port), ..plain.options("x") }).await;
    assert!(refused.contains("does not speak TLS: write nats://"), "{refused}");

    let server = NatsServer::start_current(&tls(true));
    let certificate = Some((path("client.pem"), path("client.key")));
    all_works(with(&server, NatsAccess { certificate, ..ca() })).await;
    let refused = refusal(with(&server, ca())).await;
    assert!(refused.contains("127.0.0.1:"), "{refused}");
}

/// The permissions of docs/deploy.md.
const PUBLISH: &[&str] = &[
    "PREFIX.>",
    "$KV.PREFIX-leases.>",
    "$KV.PREFIX-checkpoints.>",
    "$KV.PREFIX-consumers.>",
    "$JS.API.INFO",
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.STREAM.MSG.DELETE.*",
    "$JS.API.STREAM.PURGE.*",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.MSG.NEXT.>",
];

fn permissions(prefix: &str, denied: &[&str]) -> String {
    let quoted = |subjects: &[&str]| {
        let subjects = subjects.iter().map(|subject| format!("\"{}\"", subject.replace("PREFIX", prefix)));
        subjects.collect::<Vec<_>>().join(", ")
    };
    format!(
        "authorization {{ users: [{{ user: order, password: pass, \
         permissions: {{ publish: {{ allow: [{}], deny: [{}] }}, subscribe: [\"_INBOX.>\"] }} }}] }}",
        quoted(PUBLISH),
        quoted(denied)
    )
}

fn as_user(server: &NatsServer, prefix: &str) -> NatsOptions {
    NatsOptions { url: format!("nats://order:pass@127.0.0.1:{}", server.port), ..server.options(prefix) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough() {
    let documented = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deploy.md")).unwrap();
    for subject in PUBLISH {
        assert!(documented.contains(&subject.replace("PREFIX", "ordersystem")), "{subject}");
    }
    let prefix = fresh_prefix();
    let settings = permissions(&prefix, &[]);
    for server in [NatsServer::start(&settings), NatsServer::start_current(&settings)] {
        all_works(as_user(&server, &prefix)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_permission_to_publish_is_refused_and_the_permission_is_named() {
    for denied in ["PREFIX.events.*", "PREFIX.parts.*", "$KV.PREFIX-consumers.>", "PREFIX.request.*"] {
        let prefix = fresh_prefix();
        let server = NatsServer::start_current("");
        {
            // By a user with permission.
            let store = server.store_of(&prefix).await;
            let bus = NatsMessageBus::new(server.connect_to(&prefix).await, NatsBusOptions::default());
            bus.verify().await.unwrap();
            bus.check().await.unwrap();
            store.check().await.unwrap();
        }
        let mut server = server;
        server.kill();
        server.start_again_with(&format!(
            "jetstream {{ store_dir: FOLDER, max_file_store: 1TB }}\n{}",
            permissions(&prefix, &[denied])
        ));
        let nats = Nats::start(as_user(&server, &prefix)).await.unwrap();
        nats.connected().await.unwrap();
        let (bus, store) =
            (NatsMessageBus::new(nats.clone(), NatsBusOptions::default()), Arc::new(NatsEventStore::new(nats)));
        if denied.contains("events") {
            // The check publishes no event: a permission that is withdrawn later only shows when one is published.
            bus.publish(&[crate::nats_bus::message(1, 1)]).await.unwrap_err();
        }
        let (bus, store) = (bus.check().await, store.check().await);
        println!("without {denied}: the bus {bus:?}, the log {store:?}");
        let found = if denied.contains("request") {
            bus.expect("the bus needs no requests");
            store.unwrap_err().to_string()
        } else {
            store.expect("the log needs no events");
            bus.unwrap_err().to_string()
        };
        let subject = denied.replace("PREFIX", &prefix);
        let begin = subject.trim_end_matches(['*', '>']);
        assert!(found.to_lowercase().contains("permissions violation") && found.contains(begin), "{found}");
    }
}

/// A server on which everything has been created by a user with permission, with a user who lacks what is denied.
async fn denying(prefix: &str, denied: &[&str], subscribe: &str) -> NatsServer {
    let mut server = NatsServer::start_current("");
    server.store_of(prefix).await;
    let nats = server.connect_to(prefix).await;
    NatsMessageBus::new(nats.clone(), NatsBusOptions::default()).verify().await.unwrap();
    NatsLeaseStore::new(nats.clone()).verify().await.unwrap();
    NatsCheckpointStore::new(nats).verify().await.unwrap();
    server.kill();
    let permissions = permissions(prefix, denied).replace("_INBOX.>", subscribe);
    server.start_again_with(&format!("jetstream {{ store_dir: FOLDER, max_file_store: 1TB }}\n{permissions}"));
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_fails_the_start_and_is_named() {
    for (denied, subscribe, permit) in [
        ("PREFIX.log.*", "_INBOX.>", "permit PREFIX.> for publishing"),
        ("PREFIX.request.*", "_INBOX.>", "permit PREFIX.> for publishing"),
        ("PREFIX.parts.*", "_INBOX.>", "permit PREFIX.> for publishing"),
        ("PREFIX.events.*", "_INBOX.>", "publish to PREFIX.events.probe: permit PREFIX.> for publishing"),
        ("PREFIX.events.>", "_INBOX.>", "publish to PREFIX.events.probe: permit PREFIX.> for publishing"),
        ("$KV.PREFIX-leases.>", "_INBOX.>", "permit $KV.PREFIX-leases.> for publishing"),
        ("$KV.PREFIX-checkpoints.>", "_INBOX.>", "permit $KV.PREFIX-checkpoints.> for publishing"),
        ("$KV.PREFIX-consumers.>", "_INBOX.>", "permit $KV.PREFIX-consumers.> for publishing"),
        ("$JS.API.CONSUMER.CREATE.>", "_INBOX.>", "permit $JS.API.CONSUMER.CREATE.> for publishing"),
        ("$JS.API.CONSUMER.MSG.NEXT.>", "_INBOX.>", "permit $JS.API.CONSUMER.MSG.NEXT.> for publishing"),
        // Of one stream.
        ("$JS.API.CONSUMER.MSG.NEXT.PREFIX-events.>", "_INBOX.>", "permit $JS.API.CONSUMER.MSG.NEXT.> for publishing"),
        ("$JS.API.CONSUMER.DELETE.>", "_INBOX.>", "permit $JS.API.CONSUMER.DELETE.> for publishing"),
        // Needed only once the stream of events is full, or for the first dead letter.
        ("$JS.API.CONSUMER.LIST.*", "_INBOX.>", "permit $JS.API.CONSUMER.LIST.* for publishing"),
        ("$JS.API.STREAM.PURGE.*", "_INBOX.>", "permit $JS.API.STREAM.PURGE.* for publishing"),
        ("$JS.API.STREAM.CREATE.*", "_INBOX.>", "permit $JS.API.STREAM.CREATE.* for publishing"),
        ("$JS.API.STREAM.MSG.DELETE.*", "_INBOX.>", "permit $JS.API.STREAM.MSG.DELETE.* for publishing"),
        ("$JS.API.STREAM.MSG.GET.*", "_INBOX.>", "permit $JS.API.STREAM.MSG.GET.* for publishing"),
        ("$JS.API.STREAM.MSG.GET.KV_PREFIX-leases", "_INBOX.>", "permit $JS.API.STREAM.MSG.GET.* for publishing"),
        ("$JS.API.INFO", "_INBOX.>", "permit $JS.API.INFO for publishing"),
        ("$JS.API.STREAM.INFO.*", "_INBOX.>", "permit $JS.API.STREAM.INFO.* for publishing"),
        ("nothing", "nothing", "permit _INBOX.> for subscribing"),
    ] {
        let prefix = fresh_prefix();
        let server = denying(&prefix, &[denied], subscribe).await;
        let nats = Nats::start(as_user(&server, &prefix)).await.unwrap();
        nats.connected().await.unwrap();
        let store = NatsEventStore::new(nats.clone());
        let (leases, checkpoints) = (NatsLeaseStore::new(nats.clone()), NatsCheckpointStore::new(nats.clone()));
        let bus = NatsMessageBus::new(nats, NatsBusOptions::default());
        let admitted = async {
            store.until_verified().await?;
            leases.verify().await?;
            checkpoints.verify().await?;
            bus.verify().await
        };
        let refused = admitted.await.unwrap_err();
        println!("without {denied} and with {subscribe}: {refused:?}");
        assert!(
            matches!(&refused, ConnectError::Fatal(why) if why.contains(&permit.replace("PREFIX", &prefix))),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permission_to_publish_events_is_checked_without_a_message_that_anyone_receives() {
    for server in [NatsServer::start(""), NatsServer::start_current("")] {
        let prefix = fresh_prefix();
        let other = async_nats::connect(server.url()).await.unwrap();
        let mut plain = other.subscribe(format!("{prefix}.events.>")).await.unwrap();
        other.flush().await.unwrap();
        // The server answers the check, which waits for it as long as for any other answer.
        let patient = NatsOptions { request_timeout: Duration::from_secs(600), ..server.options(&prefix) };
        let nats = Nats::start(patient).await.unwrap();
        let bus = NatsMessageBus::new(nats, NatsBusOptions::default());
        timeout(Duration::from_secs(60), bus.verify()).await.expect("the server answers").unwrap();
        bus.publish(&[message(1, 1)]).await.unwrap();
        let heard = timeout(Duration::from_secs(60), plain.next()).await.unwrap().unwrap();
        assert_eq!(heard.subject.as_str(), format!("{prefix}.events.1"), "the event is the first message");
        let stored = server.raw().await.get_stream(format!("{prefix}-events")).await.unwrap();
        assert_eq!(stored.cached_info().state.last_sequence, 1, "and nothing else was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_store_the_key_of_a_new_log_does_not_begin_one() {
    let prefix = fresh_prefix();
    let server = NatsServer::start_current(&permissions(&prefix, &["$KV.PREFIX-checkpoints.>"]));
    let nats = Nats::start(as_user(&server, &prefix)).await.unwrap();
    let refused = NatsEventStore::new(nats).until_verified().await.unwrap_err();
    let permit = format!("permit $KV.{prefix}-checkpoints.> for publishing");
    assert!(matches!(&refused, ConnectError::Fatal(why) if why.contains(&permit)), "{refused:?}");
}

/// It may publish to the log, but not the events of one order: that shows only on an append.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_user_may_not_publish_is_definitely_refused_and_the_node_is_not_ready() {
    let prefix = fresh_prefix();
    let server = denying(&prefix, &["PREFIX.log.13"], "_INBOX.>").await;
    let nats = Nats::start(as_user(&server, &prefix)).await.unwrap();
    let store = NatsEventStore::new(nats);
    store.until_verified().await.unwrap();
    let commit = |order: u64, request: Option<&str>| Commit {
        id: CommitId::random(),
        stream: StreamId(order),
        expected: ExpectedRevision::NoStream,
        request: request.map(|id| RequestKey { scope: RequestScope::Log, id: id.into(), fingerprint: 7 }),
        events: vec![Bytes::from_static(b"an event")],
    };
    store.append(commit(12, None)).await.unwrap();
    store.check().await.unwrap();
    for request in [None, Some("create-13")] {
        let refused = store.append(commit(13, request)).await;
        let Err(AppendError::Store(StoreError::Unavailable(why))) = refused else { panic!("{refused:?}") };
        assert!(why.contains(&format!("publish to {prefix}.log.13: permit {prefix}.> for publishing")), "{why}");
    }
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains(&format!("{prefix}.log.13")), "{why}");
    store.append(commit(14, Some("create-14"))).await.expect("others are taken");
}
