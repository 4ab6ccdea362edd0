//! What it costs to identify callers: CreateOrder with an API key and with a token, against a node without identities. And what a caller within
//! its limits notices of one beyond them.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use ordersystem::identity::api_keys::NewKey;
use parking_lot::Mutex;

use crate::{
    ROUNDS,
    attacks::at_rate,
    client,
    issuer::Issuer,
    median,
    servers::{Limits, Server},
    variants::{self, Variant},
};

const PATH: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";

/// The identity file, and the two callers in it.
fn identities(folder: &Path) -> (Vec<String>, String, String) {
    let (key, issuer) = (NewKey::draw().expect("random bytes"), Issuer::new());
    let (hash, section) = (key.hash().to_hex(), Issuer::section());
    let file = folder.join("identities.toml");
    let entry = format!("[[api_keys]]\nname = \"bench\"\nroles = [\"writer\"]\nsha256 = \"{hash}\"\n");
    fs::write(&file, entry + &section).expect("written");
    fs::write(folder.join("keys.json"), issuer.key_set()).expect("written");
    let flags = vec!["--identities".to_owned(), file.to_str().expect("UTF-8").to_owned()];
    let token = issuer.token(&Issuer::claims("bench", &["writer"], 3_600));
    (flags, format!("Bearer {}", key.as_str()), format!("Bearer {token}"))
}

/// Measures all callers in turn, and compares them.
pub async fn compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let (flags, key, token) = identities(folder.path());
    let callers = [
        Variant::new("none", 1.0, &[], None),
        Variant::new("API key", 0.97, &flags, Some(key)),
        Variant::new("token", 0.92, &flags, Some(token)),
    ];
    variants::compare(callers.into()).await;
}

/// The calls a second of the polite caller, and those that the greedy one may make and makes.
const POLITE: f64 = 100.0;
const ALLOWED: u32 = 200;
const GREEDY: f64 = 2_000.0;
/// How much longer the slowest hundredth of the polite caller's calls may take.
const P99_GOAL: f64 = 1.5;
/// The length of each measurement; alone and beside alternate.
const BESIDE: Duration = Duration::from_secs(5);

/// A caller with its key; each has connections of its own.
struct Paced {
    server: Arc<Server>,
    key: HeaderValue,
    answered: AtomicU64,
    refused: AtomicU64,
    took: Mutex<Vec<Duration>>,
}

impl Paced {
    fn new(server: &Arc<Server>, key: &NewKey) -> Arc<Self> {
        let key = HeaderValue::from_str(&format!("Bearer {}", key.as_str())).expect("a header");
        let (answered, refused, took) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Arc::new(Self { server: Arc::clone(server), key, answered, refused, took })
    }

    /// Calls at `rate` for `time`; the 99th percentile of what the answered calls took.
    async fn run(self: Arc<Self>, rate: f64, time: Duration) -> Duration {
        self.took.lock().clear();
        let (connection, body) = (client::connect(self.server.address).await, client::framed(&client::create_order()));
        let calls = at_rate(rate, client::IN_FLIGHT, |_| {
            let (this, connection, body) = (Arc::clone(&self), connection.clone(), body.clone());
            async move {
                let began = Instant::now();
                let address = this.server.address;
                let outcome = client::try_call(connection, address, PATH, Some(&this.key), body).await;
                if outcome == Some(true) {
                    this.took.lock().push(began.elapsed());
                }
                let counter = if outcome == Some(true) { &this.answered } else { &this.refused };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _over = tokio::time::timeout(time, calls).await;
        let mut took = self.took.lock().clone();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Measures the polite caller alone and beside the greedy one, in turn.
pub async fn beside_a_greedy_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = [(); 2].map(|()| NewKey::draw().expect("random bytes"));
    let entry = |name: &str, key: &NewKey| {
        format!("[[api_keys]]\nname = \"{name}\"\nroles = [\"writer\"]\nsha256 = \"{}\"\n", key.hash().to_hex())
    };
    let limits = format!("[limits.name.greedy]\nrate = {ALLOWED}\ncommands_in_flight = 16\n");
    let file = folder.path().join("identities.toml");
    fs::write(&file, entry("polite", &keys[0]) + &entry("greedy", &keys[1]) + &limits).expect("written");
    let flags = ["--identities", file.to_str().expect("UTF-8"), "--log-level", "warn,ordersystem::node=info"];
    let server = Arc::new(Server::on_any_port(&flags.map(str::to_owned), Limits::default()));
    let [polite, greedy] = [0, 1].map(|caller| Paced::new(&server, &keys[caller]));
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let single = Arc::clone(&polite).run(POLITE, BESIDE).await;
        let other = tokio::spawn(Arc::clone(&greedy).run(GREEDY, BESIDE));
        let both = Arc::clone(&polite).run(POLITE, BESIDE).await;
        other.await.expect("no panic");
        // The first round is a warm-up.
        if round > 0 {
            alone.push(single.as_secs_f64() * 1e3);
            beside.push(both.as_secs_f64() * 1e3);
        }
    }
    let refused = polite.refused.load(Ordering::Relaxed);
    let (greedy_answered, greedy_refused) =
        (greedy.answered.load(Ordering::Relaxed), greedy.refused.load(Ordering::Relaxed));
    println!(
        "polite, {POLITE}/s: {refused} refused; greedy, {GREEDY}/s of {ALLOWED}: {greedy_answered} answered, {greedy_refused} refused"
    );
    let ratio = median(alone.iter().zip(&beside).map(|(alone, beside)| beside / alone));
    let (alone, beside) = (median(alone.into_iter()), median(beside.into_iter()));
    println!("p99 of the polite caller: {alone:.2} ms alone, {beside:.2} ms beside: {ratio:.2}, goal {P99_GOAL}");
}
