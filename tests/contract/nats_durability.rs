//! The reported durability, derived from the servers' monitoring ports, and the configurations refused at startup.

use std::time::Duration;

use ordersystem::{
    backends::nats::{
        checkpoint_store::NatsCheckpointStore,
        connection::{ConnectError, Nats, NatsOptions},
        event_store::NatsEventStore,
        lease::NatsLeaseStore,
        message_bus::{NatsBusOptions, NatsMessageBus},
    },
    ports::event_store::{Durability, EventStore},
};
use tokio::time::{Instant, sleep};

use crate::{
    nats_cluster::{NatsCluster, SERVERS},
    nats_server::{NatsServer, current_program, free_port, fresh_prefix},
    support::until,
};

/// One current server that syncs or not, with the address of its monitoring port.
fn server(syncs: bool) -> (NatsServer, String) {
    let monitor = format!("127.0.0.1:{}", free_port());
    let sync = if syncs { "sync_interval: always" } else { "" };
    let settings = format!("http: \"{monitor}\"\njetstream {{ store_dir: FOLDER, max_file_store: 1TB\n{sync} }}");
    (NatsServer::start_program(&current_program(), free_port(), &settings), monitor)
}

/// The durability and its explanation; or why the start is refused.
async fn claimed(options: NatsOptions) -> Result<(Durability, String), String> {
    let store = NatsEventStore::new(Nats::start(options).await.unwrap());
    let give_up_at = Instant::now() + Duration::from_secs(60);
    loop {
        match store.until_verified().await {
            Ok(()) => {
                let (detail, summary) = (store.durability_detail().unwrap(), store.summary());
                assert!(summary.contains(&detail), "the log says at the start what is shown later: {summary}");
                return Ok((store.durability(), detail));
            }
            Err(ConnectError::Fatal(why)) => return Err(why),
            Err(ConnectError::Retryable(why)) => assert!(Instant::now() < give_up_at, "{why}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_gives_machine_if_it_reports_or_the_operator_asserts_that_it_syncs() {
    let ((syncs, its_monitor), (careless, careless_monitor)) = (server(true), server(false));
    let of = |server: &NatsServer, monitor: &str, synced| NatsOptions {
        monitors: vec![monitor.to_owned()],
        synced,
        ..server.options(&fresh_prefix())
    };
    let nowhere = format!("127.0.0.1:{}", free_port());
    for (options, durability, says) in [
        (
            of(&syncs, &its_monitor, false),
            Durability::Machine,
            "1 replica, synced before it is acknowledged; survives a power loss",
        ),
        (of(&syncs, &its_monitor, true), Durability::Machine, "synced before it is acknowledged; "),
        (of(&syncs, &nowhere, true), Durability::Machine, "as --nats-synced asserts"),
        (of(&syncs, &nowhere, false), Durability::Process, "not known to be synced"),
        // The settings of another server prove nothing about this one.
        (of(&careless, &its_monitor, false), Durability::Process, "not known to be synced"),
        (of(&careless, &careless_monitor, false), Durability::Process, "has no sync_interval: always"),
    ] {
        let (found, summary) = claimed(options).await.unwrap();
        assert_eq!(found, durability, "{summary}");
        assert!(summary.contains(says), "{summary}");
    }
    let refused = claimed(of(&careless, &careless_monitor, true)).await.unwrap_err();
    assert!(refused.contains("--nats-synced is wrong"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_of_syncing_is_rejected_for_a_server_that_is_too_old() {
    let server = NatsServer::start("");
    let options = NatsOptions { synced: true, ..server.options(&fresh_prefix()) };
    let version = Nats::start(options.clone()).await.unwrap();
    version.connected().await.unwrap();
    let version = version.client().server_info().version;
    // Debian's nats-server is 2.9; only newer ones support it.
    match claimed(options).await {
        Ok((durability, _)) => assert!(!version.starts_with("2.9.") && durability == Durability::Machine, "{version}"),
        Err(why) => {
            assert!(version.starts_with("2.9."), "{version}");
            assert!(
                why.contains(&version) && why.contains("2.10 or newer") && why.contains("without --nats-synced"),
                "{why}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_give_quorum_only_if_each_is_known_to_sync() {
    let careless = NatsCluster::start("");
    let (found, summary) = claimed(careless.options(&fresh_prefix())).await.unwrap();
    assert_eq!(found, Durability::Process, "{summary}");
    assert!(summary.contains("3 replicas, not known to be synced"), "{summary}");
    assert!(summary.contains("survives the loss of a minority of servers, not a power loss of all"), "{summary}");
    let asserted = NatsOptions { synced: true, ..careless.options(&fresh_prefix()) };
    let (found, summary) = claimed(asserted).await.unwrap();
    assert_eq!(found, Durability::Quorum, "{summary}");
    assert!(summary.contains("as --nats-synced asserts"), "{summary}");
    drop(careless);

    let monitors: Vec<_> = (0..SERVERS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let cluster = NatsCluster::start_each(|server| {
        format!(
            "http: \"{}\"\njetstream {{ store_dir: FOLDER, max_file_store: 1TB, sync_interval: always }}",
            monitors[server]
        )
    });
    let with = |monitors: &[String]| NatsOptions { monitors: monitors.to_vec(), ..cluster.options(&fresh_prefix()) };
    let (found, summary) = claimed(with(&monitors)).await.unwrap();
    assert_eq!(found, Durability::Quorum, "{summary}");
    let (found, summary) = claimed(with(&monitors[1..])).await.unwrap();
    assert_eq!(found, Durability::Process, "two of three do not speak for the third: {summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_takes_nothing_from_the_durability() {
    let monitors: Vec<_> = (0..SERVERS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let mut cluster = NatsCluster::start_each(|server| {
        format!(
            "http: \"{}\"\njetstream {{ store_dir: FOLDER, max_file_store: 1TB, sync_interval: always }}",
            monitors[server]
        )
    });
    let options = NatsOptions { monitors: monitors.clone(), ..cluster.options(&fresh_prefix()) };
    let nats = Nats::start(options.clone()).await.unwrap();
    let store = NatsEventStore::new(nats.clone());
    until("the store is open", async || store.until_verified().await.ok()).await;
    assert_eq!(store.durability(), Durability::Quorum, "{}", store.summary());

    // The server that the store is connected to: it has to reconnect, and to check again.
    let connections = nats.connections();
    let name = nats.client().server_info().server_name;
    let killed: usize = name.strip_prefix('s').unwrap().parse().unwrap();
    cluster.kill(killed);
    until("the store is connected to another server, and used", async || {
        (nats.connections() > connections && store.check().await.is_ok()).then_some(())
    })
    .await;
    assert_eq!(store.durability(), Durability::Quorum, "after the reconnect: {}", store.summary());
    until("the server is known to be away", async || {
        let looked = store.check().await;
        assert_eq!(store.durability(), Durability::Quorum, "{}", store.summary());
        (looked.is_ok() && store.summary().contains(&format!("except by {name}, now unavailable"))).then_some(())
    })
    .await;
    let (found, summary) = claimed(options.clone()).await.unwrap();
    assert_eq!(found, Durability::Quorum, "a node that starts meanwhile: {summary}");
    let two_are_not_enough = NatsOptions { monitors: vec![monitors[(killed + 1) % SERVERS].clone()], ..options };
    let (found, summary) = claimed(two_are_not_enough).await.unwrap();
    assert_eq!(found, Durability::Process, "one is no majority: {summary}");

    cluster.start_again(killed);
    until("all are there again", async || {
        let looked = store.check().await;
        (looked.is_ok() && !store.summary().contains("away") && store.durability() == Durability::Quorum).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_a_stream_or_bucket_has_are_refused_with_the_command_that_changes_it() {
    let cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let connect = async |replicas| {
        let nats = Nats::start(NatsOptions { replicas, ..cluster.options(&prefix) }).await.unwrap();
        nats.connected().await.unwrap();
        (
            NatsEventStore::new(nats.clone()),
            NatsLeaseStore::new(nats.clone()),
            NatsCheckpointStore::new(nats.clone()),
            NatsMessageBus::new(nats, NatsBusOptions::default()),
        )
    };
    let (store, leases, checkpoints, bus) = connect(1).await;
    store.until_verified().await.unwrap();
    leases.verify().await.unwrap();
    checkpoints.verify().await.unwrap();
    bus.verify().await.unwrap();
    let (store, leases, checkpoints, bus) = connect(3).await;
    for (refused, stream) in [
        (store.until_verified().await, format!("{prefix}-log")),
        (leases.verify().await, format!("KV_{prefix}-leases")),
        (checkpoints.verify().await, format!("KV_{prefix}-checkpoints")),
        (bus.verify().await, format!("{prefix}-events")),
    ] {
        let Err(ConnectError::Fatal(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains(&format!("nats stream edit {stream} --replicas 3")), "{why}");
    }
}

#[tokio::test]
async fn a_bus_on_a_nats_without_jetstream_is_refused_permanently() {
    let server = NatsServer::start_with("");
    let nats = Nats::start(server.options(&fresh_prefix())).await.unwrap();
    let refused = NatsMessageBus::new(nats, NatsBusOptions::default()).verify().await;
    let Err(ConnectError::Fatal(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("start it with -js"), "{why}");
}
