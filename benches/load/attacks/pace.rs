//! The rate of attackers: they must not use up the machine that the others need.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

/// Makes calls at `rate` per second, at most `at_once` concurrently; a call that is due beyond that is omitted.
pub async fn at_rate<F>(rate: f64, at_once: usize, call: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (room, began) = (Arc::new(Semaphore::new(at_once)), Instant::now());
    let mut calls = JoinSet::new();
    let mut made = 0;
    loop {
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        for number in made..due {
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { break };
            let call = call(number);
            calls.spawn(async move {
                call.await;
                drop(permit);
            });
        }
        made = due;
        while calls.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs `attackers` concurrently; one that has ended restarts after a tenth of a second.
pub async fn without_end<F>(attackers: usize, attack: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let again = |number| {
        let attack = attack(number);
        async move {
            attack.await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            number
        }
    };
    let mut running: JoinSet<usize> = JoinSet::new();
    for number in 0..attackers {
        running.spawn(again(number));
    }
    while let Some(ended) = running.join_next().await {
        running.spawn(again(ended.expect("no panic")));
    }
}
