//! The lease contract.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use ordersystem::{
    backends::{
        embedded::lease::EmbeddedLeaseStore, memory::lease::MemoryLeaseStore, nats::lease::NatsLeaseStore,
        redis::lease::RedisLeaseStore,
    },
    ports::lease_store::{Lease, LeaseError, LeaseOwner, LeaseStore, MAX_TTL},
};
use tokio::{
    sync::Barrier,
    time::{Instant, sleep},
};

use crate::{
    backend::{Backend, Time, on_each, race_on_each},
    embedded::scratch,
    nats_cluster, nats_server, redis_server,
};

const BACKENDS: &[Backend<dyn LeaseStore>] = &[
    Backend {
        name: "inmemory",
        time: Time::Simulated,
        open: || async { Arc::new(MemoryLeaseStore::new()) as Arc<dyn LeaseStore> }.boxed(),
    },
    Backend {
        name: "embedded",
        time: Time::Real,
        open: || async { Arc::new(EmbeddedLeaseStore::new(scratch())) as Arc<dyn LeaseStore> }.boxed(),
    },
    Backend {
        name: "redis",
        time: Time::Real,
        open: || {
            async { Arc::new(RedisLeaseStore::new(redis_server::shared().connect().await)) as Arc<dyn LeaseStore> }
                .boxed()
        },
    },
    Backend {
        name: "nats",
        time: Time::Real,
        open: || {
            async {
                Arc::new(NatsLeaseStore::new(nats_server::shared().connect_to(&nats_server::fresh_prefix()).await))
                    as Arc<dyn LeaseStore>
            }
            .boxed()
        },
    },
    Backend {
        name: "nats on three servers",
        time: Time::Real,
        open: || {
            async {
                Arc::new(NatsLeaseStore::new(nats_cluster::shared().patient(&nats_server::fresh_prefix()).await))
                    as Arc<dyn LeaseStore>
            }
            .boxed()
        },
    },
];

/// Long enough not to expire during a test.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

async fn take(leases: &Arc<dyn LeaseStore>, holder: &str, ttl: Duration) -> Lease {
    leases.acquire("outbox", holder, ttl).await.unwrap().expect("the lease is free")
}

/// Retries until the lease is free; it must be within `limit`.
async fn take_when_free(leases: &Arc<dyn LeaseStore>, holder: &str, limit: Duration) -> Lease {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(lease) = leases.acquire("outbox", holder, LONG).await.unwrap() {
            return lease;
        }
        assert!(Instant::now() < deadline, "the lease does not expire");
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_lease_has_one_owner_at_a_time() {
    on_each(BACKENDS, |leases| async move {
        assert_eq!(leases.holder("outbox").await, Ok(None));
        let asked_at = Instant::now();
        let lease = take(&leases, "node-1:5001", LONG).await;
        assert_eq!((lease.name.as_str(), lease.holder.as_str()), ("outbox", "node-1:5001"));
        assert!(lease.expires_at >= asked_at + LONG && lease.expires_at <= Instant::now() + LONG);
        assert_eq!(leases.acquire("outbox", "node-2", LONG).await, Ok(None));
        assert!(leases.acquire("projection", "node-2", LONG).await.unwrap().is_some(), "names are independent");
        let owner = LeaseOwner { holder: "node-1:5001".to_owned(), fencing_token: lease.fencing_token };
        assert_eq!(leases.holder("outbox").await, Ok(Some(owner)));
    });
}

#[test]
fn a_released_lease_is_free_at_once_and_its_token_is_never_used_again() {
    on_each(BACKENDS, |leases| async move {
        let mut last_token = 0;
        for round in 0..5 {
            let lease = take(&leases, if round % 2 == 0 { "node-1" } else { "node-2" }, LONG).await;
            assert!(lease.fencing_token > last_token, "round {round}");
            last_token = lease.fencing_token;
            leases.release(&lease).await.unwrap();
            assert_eq!(leases.holder("outbox").await, Ok(None));
        }
    });
}

#[test]
fn a_lease_that_is_not_renewed_expires_and_its_next_owner_gets_a_higher_token() {
    on_each(BACKENDS, |leases| async move {
        let first = take(&leases, "node-1", SHORT).await;
        assert_eq!(leases.acquire("outbox", "node-2", LONG).await, Ok(None));
        let second = take_when_free(&leases, "node-2", SHORT * 5).await;
        assert!(Instant::now() >= first.expires_at, "it passed on before its owner stopped counting on it");
        assert!(second.fencing_token > first.fencing_token);
    });
}

#[test]
fn an_expired_lease_is_lost_even_if_nobody_took_it() {
    on_each(BACKENDS, |leases| async move {
        let lease = take(&leases, "node-1", SHORT).await;
        sleep(SHORT * 2).await;
        assert_eq!(leases.holder("outbox").await, Ok(None));
        assert_eq!(leases.renew(&lease, LONG).await, Err(LeaseError::Lost));
        assert_eq!(leases.release(&lease).await, Err(LeaseError::Lost));
        assert!(take(&leases, "node-1", LONG).await.fencing_token > lease.fencing_token);
    });
}

#[test]
fn a_renewed_lease_keeps_its_token() {
    on_each(BACKENDS, |leases| async move {
        let first = take(&leases, "node-1", SHORT).await;
        let renewed = leases.renew(&first, LONG).await.unwrap();
        assert_eq!(renewed.fencing_token, first.fencing_token);
        assert!(renewed.expires_at > first.expires_at);
        sleep(SHORT * 2).await;
        assert_eq!(leases.acquire("outbox", "node-2", LONG).await, Ok(None));
        let shortened = leases.renew(&renewed, SHORT).await.unwrap();
        assert!(shortened.expires_at < renewed.expires_at, "the time to live counts from the renewal");
        take_when_free(&leases, "node-2", SHORT * 5).await;
    });
}

#[test]
fn a_stale_token_can_neither_renew_nor_release() {
    on_each(BACKENDS, |leases| async move {
        let stale = take(&leases, "node-1", SHORT).await;
        let current = take_when_free(&leases, "node-2", SHORT * 5).await;
        assert_eq!(leases.renew(&stale, LONG).await, Err(LeaseError::Lost));
        assert_eq!(leases.release(&stale).await, Err(LeaseError::Lost));
        let forged = Lease { holder: "node-2".to_owned(), ..stale };
        assert_eq!(leases.renew(&forged, LONG).await, Err(LeaseError::Lost));
        assert_eq!(
            leases.holder("outbox").await.unwrap().map(|owner| owner.fencing_token),
            Some(current.fencing_token)
        );
        leases.renew(&current, LONG).await.unwrap();
    });
}

#[test]
fn acquiring_again_is_a_new_ownership_that_ends_the_old_one() {
    on_each(BACKENDS, |leases| async move {
        let before_restart = take(&leases, "node-1", LONG).await;
        let after_restart = take(&leases, "node-1", LONG).await;
        assert!(after_restart.fencing_token > before_restart.fencing_token);
        assert_eq!(leases.renew(&before_restart, LONG).await, Err(LeaseError::Lost));
        leases.renew(&after_restart, LONG).await.unwrap();
    });
}

#[test]
fn names_holders_and_times_to_live_are_bounded() {
    on_each(BACKENDS, |leases| async move {
        let long = "x".repeat(129);
        for (name, holder, ttl) in [
            ("", "node-1", LONG),
            ("a.b", "node-1", LONG),
            (&long, "node-1", LONG),
            ("outbox", "", LONG),
            ("outbox", "node 1", LONG),
            ("outbox", &long, LONG),
            ("outbox", "node-1", Duration::ZERO),
            ("outbox", "node-1", MAX_TTL + Duration::from_nanos(1)),
        ] {
            let refused = leases.acquire(name, holder, ttl).await;
            assert!(matches!(refused, Err(LeaseError::Invalid(_))), "{name:?} {holder:?} {ttl:?}: {refused:?}");
        }
        assert!(matches!(leases.holder("a b").await, Err(LeaseError::Invalid(_))));
        let lease = take(&leases, "node-1", LONG).await;
        assert!(matches!(leases.renew(&lease, Duration::MAX).await, Err(LeaseError::Invalid(_))));
    });
}

#[test]
fn of_racing_holders_exactly_one_wins_each_round() {
    race_on_each(BACKENDS, |leases| async move {
        const HOLDERS: usize = 8;
        let mut last_token = 0;
        for round in 0..50 {
            let start = Arc::new(Barrier::new(HOLDERS));
            let racers: Vec<_> = (0..HOLDERS)
                .map(|holder| {
                    let (leases, start) = (leases.clone(), start.clone());
                    tokio::spawn(async move {
                        start.wait().await;
                        leases.acquire("outbox", &format!("node-{holder}"), LONG).await.unwrap()
                    })
                })
                .collect();
            let mut won = Vec::new();
            for racer in racers {
                won.extend(racer.await.unwrap());
            }
            assert_eq!(won.len(), 1, "round {round}: {won:?}");
            assert!(won[0].fencing_token > last_token, "round {round}");
            last_token = won[0].fencing_token;
            leases.release(&won[0]).await.unwrap();
        }
    });
}
