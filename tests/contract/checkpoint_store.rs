//! The checkpoint store contract.

use std::sync::Arc;

use futures_util::FutureExt as _;
use ordersystem::{
    backends::{
        embedded::checkpoint_store::EmbeddedCheckpointStore, memory::checkpoint_store::MemoryCheckpointStore,
        nats::checkpoint_store::NatsCheckpointStore, redis::checkpoint_store::RedisCheckpointStore,
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
        event_store::Position,
    },
};

use crate::{
    backend::{Backend, Time, on_each, race_on_each},
    embedded::scratch,
    nats_cluster, nats_server, redis_server,
};

type Store = Arc<dyn CheckpointStore>;

const BACKENDS: &[Backend<dyn CheckpointStore>] = &[
    Backend {
        name: "inmemory",
        time: Time::Simulated,
        open: || async { Arc::new(MemoryCheckpointStore::new()) as Store }.boxed(),
    },
    Backend {
        name: "embedded",
        time: Time::Real,
        open: || async { Arc::new(EmbeddedCheckpointStore::new(scratch())) as Store }.boxed(),
    },
    Backend {
        name: "redis",
        time: Time::Real,
        open: || async { Arc::new(RedisCheckpointStore::new(redis_server::shared().connect().await)) as Store }.boxed(),
    },
    Backend {
        name: "nats",
        time: Time::Real,
        open: || {
            async {
                Arc::new(NatsCheckpointStore::new(nats_server::shared().connect_to(&nats_server::fresh_prefix()).await))
                    as Store
            }
            .boxed()
        },
    },
    Backend {
        name: "nats on three servers",
        time: Time::Real,
        open: || {
            async {
                Arc::new(NatsCheckpointStore::new(nats_cluster::shared().patient(&nats_server::fresh_prefix()).await))
                    as Store
            }
            .boxed()
        },
    },
];

const fn at(position: u64, fencing_token: u64) -> Checkpoint {
    Checkpoint { position: Position(position), fingerprint: None, fencing_token }
}

#[test]
fn a_checkpoint_is_loaded_by_its_name_only() {
    on_each(BACKENDS, |store| async move {
        assert_eq!(store.load("outbox").await, Ok(None));
        store.save("outbox", at(7, 1)).await.unwrap();
        store.save("projection", at(3, 0)).await.unwrap();
        assert_eq!(store.load("outbox").await, Ok(Some(at(7, 1))));
        assert_eq!(store.load("projection").await, Ok(Some(at(3, 0))));
        assert_eq!(store.load("out").await, Ok(None));
    });
}

#[test]
fn a_position_moves_forward_and_never_back_under_one_token() {
    on_each(BACKENDS, |store| async move {
        store.save("outbox", at(7, 1)).await.unwrap();
        store.save("outbox", at(7, 1)).await.expect("saving again what is stored is harmless");
        store.save("outbox", at(9, 1)).await.unwrap();
        let refused = store.save("outbox", at(8, 1)).await;
        assert_eq!(refused, Err(CheckpointError::Regressed { current: Position(9) }));
        assert_eq!(store.load("outbox").await, Ok(Some(at(9, 1))));
    });
}

#[test]
fn an_owner_that_lost_its_lease_cannot_save() {
    on_each(BACKENDS, |store| async move {
        store.save("outbox", at(7, 4)).await.unwrap();
        store.save("outbox", at(5, 6)).await.expect("a new owner may start again from before");
        let refused = store.save("outbox", at(100, 5)).await;
        assert_eq!(refused, Err(CheckpointError::Fenced { current_token: 6 }));
        assert_eq!(store.load("outbox").await, Ok(Some(at(5, 6))));
    });
}

#[test]
fn the_largest_position_and_token_are_kept_exactly() {
    on_each(BACKENDS, |store| async move {
        let largest = at(u64::MAX, u64::MAX);
        store.save("outbox", largest).await.unwrap();
        assert_eq!(store.load("outbox").await, Ok(Some(largest)));
        let refused = store.save("outbox", at(u64::MAX - 1, u64::MAX)).await;
        assert_eq!(refused, Err(CheckpointError::Regressed { current: Position(u64::MAX) }));
    });
}

#[test]
fn a_name_is_bounded() {
    on_each(BACKENDS, |store| async move {
        for name in ["", "a b", "a.b", "a*", "a/b", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(store.load(name).await, Err(CheckpointError::InvalidName), "{name:?}");
            assert_eq!(store.save(name, at(1, 1)).await, Err(CheckpointError::InvalidName), "{name:?}");
        }
        store.save(&"x".repeat(128), at(1, 1)).await.unwrap();
        store.save("Aa-_09", at(1, 1)).await.unwrap();
    });
}

#[test]
fn of_racing_owners_the_highest_token_wins() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    race_on_each(BACKENDS, |store| async move {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tokens: Vec<u64> = (1..=64).collect();
        random.shuffle(&mut tokens);
        let saves: Vec<_> = tokens
            .into_iter()
            .map(|token| {
                let (store, position) = (store.clone(), random.u64(1..1_000));
                tokio::spawn(async move {
                    let saved = store.save("outbox", at(position, token)).await;
                    assert!(matches!(saved, Ok(()) | Err(CheckpointError::Fenced { .. })), "{saved:?}");
                })
            })
            .collect();
        for save in saves {
            save.await.unwrap();
        }
        assert_eq!(store.load("outbox").await.unwrap().map(|checkpoint| checkpoint.fencing_token), Some(64));
    });
}
