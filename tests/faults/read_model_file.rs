//! A read model that a node stores in its data folder while its log is in a broker.

use std::path::Path;

use ordersystem::{
    backends::redis::event_store::RedisEventStore,
    ports::event_store::{Direction, EventStore as _, Position},
    proto::catga::orders::v1::ListOrdersRequest,
};

use crate::{
    audit::{assert_list_and_stats, listed, stats},
    durable::Durable,
    load::{Known, create, new_order, pay, payment},
    redis_server::{DURABLE, RedisServer},
    shorter_log::reason,
    support::{Process, embedded, refused, run, until},
};

fn settings(server: &RedisServer, dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    ["--persistence", "redis", "--redis", &server.url(), "--data-dir", dir].map(str::to_owned).into()
}

async fn place(service: &Process, known: &Known, names: impl IntoIterator<Item = u32>) {
    let client = service.commands().await;
    for name in names {
        let request_id = format!("order-{name}");
        let reply = create(&client, new_order("c", &request_id)).await;
        known.note(&request_id, &reply.order.unwrap().order_id, 1);
    }
}

/// Whether it has logged this by now, including the lines from before it listened.
fn has_logged(service: &Process, words: &str) -> bool {
    service.said().iter().any(|line| line.contains(words))
}

async fn until_logged(service: &Process, words: &str) {
    until(&format!("it says {words:?}"), async || has_logged(service, words)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_resumes_from_the_list_in_its_folder_and_rebuilds_it_on_request() {
    let (server, folder) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    let settings = settings(&server, folder.path());
    let known = Known::default();
    let service = Process::serve(&settings).await;
    place(&service, &known, 0..300).await;
    assert_list_and_stats(&service, &known.orders()).await;
    service.kill().await;
    assert!(folder.path().join("read_model.db").is_file() && !folder.path().join("orders.db").exists());

    let redis = server.connect_to("ordersystem").await;
    let log = RedisEventStore::new(redis);
    let events = log.read_log(Position(0), Direction::Forward, 1_000).await.unwrap();
    assert_eq!(events.len(), 300);
    let service = Process::serve(&settings).await;
    until_logged(&service, "the read model resumes from its checkpoint").await;
    let at = events.last().unwrap().position;
    until_logged(&service, &at.to_string()).await;
    assert_list_and_stats(&service, &known.orders()).await;
    place(&service, &known, 300..320).await;
    assert_list_and_stats(&service, &known.orders()).await;

    let rebuilt = run(&["projections", "rebuild", "--address", &service.address.to_string()]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert!(rebuilt.stdout.starts_with("rebuilt: 320 events, "), "{rebuilt:?}");
    assert_list_and_stats(&service, &known.orders()).await;
    service.kill().await;
    let service = Process::serve(&settings).await;
    assert_list_and_stats(&service, &known.orders()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_redis_was_emptied_reports_it_and_serves_no_order_of_the_previous_log() {
    let (server, folder) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    let settings = settings(&server, folder.path());
    let service = Process::serve(&settings).await;
    place(&service, &Known::default(), 0..50).await;
    assert_eq!(stats(&service).await.total_orders, 50);
    service.kill().await;
    assert_eq!(server.cli(&["FLUSHALL"]), "OK");

    let service = Process::serve(&settings).await;
    until_logged(&service, "the read model does not match the log").await;
    assert_eq!(listed(&service).await.len(), 0);
    let known = Known::default();
    place(&service, &known, 100..110).await;
    assert_list_and_stats(&service, &known.orders()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_read_model_degrades_health_and_is_built_again_on_request() {
    let (folder, known) = (tempfile::tempdir().unwrap(), Known::default());
    let service = Process::serve_from(folder.path()).await;
    place(&service, &known, 0..5).await;
    assert_list_and_stats(&service, &known.orders()).await;
    service.kill().await;
    let file = rusqlite::Connection::open(folder.path().join("orders.db")).unwrap();
    assert_eq!(file.execute("UPDATE orders SET currency = 'X'", []).unwrap(), 5);
    // The last connection that is closed takes the WAL in and removes it, so that the node would look for it.
    drop(file);
    std::fs::remove_file(folder.path().join("orders.db.open")).unwrap();

    let service = Process::serve_from(folder.path()).await;
    let list = async || service.queries().await.list_orders(ListOrdersRequest::default()).await.map(drop);
    assert_eq!(reason(&list().await.unwrap_err()), "DATA_CORRUPT");
    let (status, detail) = service.health("projections").await;
    assert_eq!(status, "Degraded", "{detail}");
    assert!(detail.contains("currency 'X'") && detail.contains("`ordersystem projections rebuild`"), "{detail}");
    assert!(service.is_ready().await, "orders and commands do not need it");
    for _ in 0..20 {
        assert_eq!(reason(&list().await.unwrap_err()), "DATA_CORRUPT");
    }
    until_logged(&service, "the read model is damaged").await;
    let said = service.said();
    let loud: Vec<_> = said.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(loud.len() == 1 && loud[0].contains("the read model is damaged"), "{loud:#?}");
    let rebuilt = run(&["projections", "rebuild", "--address", &service.address.to_string()]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    assert_list_and_stats(&service, &known.orders()).await;
    assert_eq!(service.health("projections").await.0, "Healthy");
    until_logged(&service, "the read model can be read again").await;
}

/// A read model that takes no events is retried twice a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_that_takes_no_events_is_said_once_and_that_it_takes_them_again() {
    let (folder, known) = (tempfile::tempdir().unwrap(), Known::default());
    let service = Process::serve_from(folder.path()).await;
    place(&service, &known, 0..5).await;
    assert_list_and_stats(&service, &known.orders()).await;
    service.kill().await;
    let file = rusqlite::Connection::open(folder.path().join("orders.db")).unwrap();
    assert_eq!(file.execute("UPDATE orders SET currency = 'X'", []).unwrap(), 5);
    drop(file);
    std::fs::remove_file(folder.path().join("orders.db.open")).unwrap();

    let args = [&embedded(folder.path())[..], &["--log-level".as_ref(), "info,ordersystem::processors=debug".as_ref()]];
    let service = Process::serve(&args.concat()).await;
    let (order_id, _) = known.orders().into_iter().next().unwrap();
    let client = service.commands().await;
    pay(&client, payment(&order_id, "pay")).await;
    let tries = "the order projection is tried again";
    let tried = || service.said().iter().filter(|line| line.contains(tries)).count();
    until("it has been tried again and again", async || tried() >= 4).await;
    let said = service.said();
    let count = |words: &str| said.iter().filter(|line| line.contains(words)).count();
    assert_eq!(count("the order projection is stalled"), 1, "{said:#?}");
    assert_eq!(count("the read model resumes from its checkpoint"), 1, "{said:#?}");
    let rebuilt = run(&["projections", "rebuild", "--address", &service.address.to_string()]).await;
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:?}");
    until_logged(&service, "the order projection follows the log again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_do_not_share_a_folder() {
    let (server, folder) = (RedisServer::start(DURABLE), tempfile::tempdir().unwrap());
    let mut settings = settings(&server, folder.path());
    let service = Process::serve(&settings).await;
    settings.extend(["--worker-id", "2"].map(str::to_owned));
    let said = refused(&settings).await;
    assert!(said.contains("in use by process"), "{said}");
    drop(service);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_a_killed_node_resumes_from_the_list_in_its_folder() {
    let (backend, folder) = (Durable::nats(), tempfile::tempdir().unwrap());
    let more = ["--data-dir", folder.path().to_str().unwrap()].map(str::to_owned);
    let settings: Vec<_> = backend.settings().into_iter().chain(more).collect();
    let known = Known::default();
    let service = Process::serve(&settings).await;
    place(&service, &known, 0..100).await;
    assert_list_and_stats(&service, &known.orders()).await;
    service.kill().await;
    let service = Process::serve(&settings).await;
    until_logged(&service, "the read model resumes from its checkpoint").await;
    place(&service, &known, 100..120).await;
    assert_list_and_stats(&service, &known.orders()).await;
}
