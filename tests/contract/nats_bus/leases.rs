//! Leases on a real clock.

use super::*;

/// Holds the lease whenever it can, and reports when it relied on it: from and until, with the token.
fn contender(leases: NatsLeaseStore, holder: u64, seed: u64, stop: watch::Receiver<bool>) -> JoinHandle<Vec<Held>> {
    tokio::spawn(async move {
        let mut random = fastrand::Rng::with_seed(seed ^ holder);
        let mut held = Vec::new();
        while !*stop.borrow() {
            let ttl = Duration::from_millis(random.u64(10..60));
            let Ok(Some(mut lease)) = leases.acquire("outbox", &format!("node-{holder}"), ttl).await else {
                sleep(Duration::from_millis(random.u64(0..5))).await;
                continue;
            };
            let from = Instant::now();
            let mut until = lease.expires_at;
            for _ in 0..random.u8(0..4) {
                sleep(ttl.mul_f64(random.f64() * 1.2)).await;
                let now = Instant::now();
                // Never shorter: an owner whose renewal got no reply relies on the previous end.
                let Ok(renewed) = leases.renew(&lease, ttl).await else { break };
                assert!(now < lease.expires_at, "an expired lease was renewed");
                (until, lease) = (renewed.expires_at, renewed);
            }
            match random.u8(..3) {
                // It crashes, and returns after its time.
                0 => sleep(ttl * 2).await,
                _ => {
                    let released_at = Instant::now();
                    if leases.release(&lease).await.is_ok() {
                        until = until.min(released_at);
                    }
                }
            }
            held.push(Held { from, until, token: lease.fencing_token, holder });
        }
        held
    })
}

#[derive(Debug)]
struct Held {
    from: Instant,
    until: Instant,
    token: u64,
    holder: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_owners_rely_on_a_lease_at_the_same_time_however_short_it_is() {
    let seed = fastrand::u64(..);
    println!("seed: {seed}");
    let prefix = fresh_prefix();
    let (stop, stopped) = watch::channel(false);
    let mut contenders = Vec::new();
    for holder in 0..5 {
        // Each as on its own node.
        let leases = NatsLeaseStore::new(shared().connect_to(&prefix).await);
        contenders.push(contender(leases, holder, seed, stopped.clone()));
    }
    sleep(Duration::from_secs(5)).await;
    stop.send_replace(true);
    let mut held = Vec::new();
    for contender in contenders {
        held.extend(contender.await.unwrap());
    }
    held.sort_by_key(|held| held.token);
    assert!(held.len() > 30, "only {} ownerships", held.len());
    assert!(held.iter().map(|held| held.holder).collect::<std::collections::HashSet<_>>().len() > 1);
    for pair in held.windows(2) {
        assert!(pair[0].token < pair[1].token, "{pair:?}");
        let is_apart = pair[0].holder == pair[1].holder || pair[0].until <= pair[1].from;
        assert!(is_apart, "two owners at once: {pair:?}");
    }
}

#[tokio::test]
async fn a_lease_survives_a_crash_of_the_server_and_fencing_tokens_continue() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    let leases = NatsLeaseStore::new(server.connect_to(&prefix).await);
    let long = Duration::from_secs(60);
    let first = leases.acquire("outbox", "node-1", long).await.unwrap().unwrap();
    server.kill();
    assert!(matches!(leases.renew(&first, long).await, Err(LeaseError::Unavailable(_))));
    server.start_again();
    let other = NatsLeaseStore::new(server.connect_to(&prefix).await);
    assert_eq!(other.acquire("outbox", "node-2", long).await, Ok(None));
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = leases.renew(&first, long).await {
        assert!(matches!(error, LeaseError::Unavailable(_)) && Instant::now() < deadline, "{error}");
        // While there is no connection it is refused at once, and this thread has to establish another one.
        sleep(Duration::from_millis(20)).await;
    }
    leases.release(&first).await.unwrap();
    let second = other.acquire("outbox", "node-2", long).await.unwrap().unwrap();
    assert!(second.fencing_token > first.fencing_token);
}
