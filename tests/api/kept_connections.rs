//! Persistent HTTP/1.1 connections: their end is announced, so no request is left without a reply.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{TestServer, soon, until};

/// A client that keeps its connection, like those of Node or Go, and never resends a request by itself.
pub struct KeptConnection(BufReader<TcpStream>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub closes: bool,
}

impl KeptConnection {
    pub async fn to(server: &TestServer) -> Option<Self> {
        TcpStream::connect(server.address).await.ok().map(|stream| Self(BufReader::new(stream)))
    }

    /// Places an order. `None` if the connection ends, in whatever way, without a reply.
    pub async fn place_order(&mut self) -> Option<Answer> {
        let order =
            json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] }).to_string();
        self.post("/orders", "application/json", &order).await
    }

    /// Posts a body to a path, all in one write.
    pub async fn post(&mut self, path: &str, content_type: &str, body: &str) -> Option<Answer> {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(&(head + body)).await?;
        self.answer().await
    }

    pub async fn send(&mut self, text: &str) -> Option<()> {
        self.0.get_mut().write_all(text.as_bytes()).await.ok()
    }

    pub async fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let status = line.split(' ').nth(1).expect("a status").parse().expect("a number");
        let (mut length, mut closes) = (0, false);
        loop {
            line.clear();
            self.0.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a number"),
                "connection" => closes = value == "close",
                _ => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).await.ok()?;
        Some(Answer { status, closes })
    }

    /// The connection ends in order: without a reset, and with no further data.
    async fn ends_in_order(mut self) -> bool {
        matches!(soon("the end of the connection", self.0.read(&mut [0])).await, Ok(0))
    }
}

/// The outcomes that clients have seen.
#[derive(Default)]
struct Met {
    ends: AtomicUsize,
    unanswered: AtomicUsize,
    refused_unannounced: AtomicUsize,
}

/// Places orders on its own connections until `enough`, or until the server no longer listens.
async fn places_orders(server: &TestServer, met: &Met, enough: impl Fn(&Met) -> bool) {
    while !enough(met)
        && let Some(mut connection) = KeptConnection::to(server).await
    {
        for number in 0.. {
            let Some(answer) = connection.place_order().await else {
                // A connection that was not accepted before the listener closed was never persistent.
                if number > 0 {
                    met.unanswered.fetch_add(1, Ordering::Relaxed);
                }
                break;
            };
            if answer.closes {
                assert!(connection.ends_in_order().await, "what is announced comes");
                met.ends.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if answer.status == 503 {
                met.refused_unannounced.fetch_add(1, Ordering::Relaxed);
            }
            // The client pauses between requests: its connection is idle then.
            tokio::time::sleep(std::time::Duration::from_micros(fastrand::u64(0..4_000))).await;
            if enough(met) {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_announces_its_end_and_answers_every_request() {
    const ENDS: usize = 400;
    let server = Arc::new(TestServer::start_with(&[("max-connection-age-ms", "300")]).await);
    let met = Arc::<Met>::default();
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        let (server, met) = (Arc::clone(&server), Arc::clone(&met));
        clients.spawn(async move {
            let count = |met: &Met| met.ends.load(Ordering::Relaxed) + met.unanswered.load(Ordering::Relaxed);
            places_orders(&server, &met, |met| count(met) >= ENDS).await;
        });
    }
    clients.join_all().await;
    assert_eq!(met.unanswered.load(Ordering::Relaxed), 0, "of {ENDS} connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_announces_it_in_every_answer_and_answers_every_request() {
    for _ in 0..5 {
        let server = Arc::new(TestServer::start().await);
        // A connection that is idle when the node stops.
        let mut idle = KeptConnection::to(&server).await.expect("connects");
        assert!(!idle.place_order().await.expect("an answer").closes);
        let met = Arc::<Met>::default();
        let mut clients = JoinSet::new();
        for _ in 0..32 {
            let (server, met) = (Arc::clone(&server), Arc::clone(&met));
            clients.spawn(async move { places_orders(&server, &met, |_| false).await });
        }
        let before = server.head().await;
        until("orders are placed", async || (server.head().await > before + 100).then_some(())).await;
        server.shutdown.cancel();
        soon("all clients are told", clients.join_all()).await;
        assert!(idle.ends_in_order().await);
        assert_eq!(
            met.refused_unannounced.load(Ordering::Relaxed),
            0,
            "a refusal that does not say that the connection ends"
        );
        assert_eq!(met.unanswered.load(Ordering::Relaxed), 0, "of {} connections", met.ends.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn an_idle_connection_of_some_age_is_closed_when_its_grace_is_over() {
    let settings = [("max-connection-age-ms", "200"), ("max-connection-age-grace-ms", "200")];
    let server = TestServer::start_with(&settings).await;
    let mut idle = KeptConnection::to(&server).await.expect("connects");
    assert!(!idle.place_order().await.expect("an answer").closes);
    assert!(idle.ends_in_order().await);
}

/// Requests that are refused before their body is read: path and content type.
const REFUSED: [(&str, &str); 6] = [
    ("/catga.orders.v1.OrderCommandService/BuyOrder", "application/grpc-web+proto"),
    ("/catga.orders.v1.NoService/PayOrder", "application/grpc-web-text"),
    ("/catga.system.v1.SystemService/NoMethod", "application/grpc-web"),
    ("/nothing", "application/json"),
    ("/stats", "application/json"),
    ("/orders", "text/plain"),
];

fn chunked(path: &str, content_type: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n");
    format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[tokio::test]
async fn after_a_refusal_whose_body_has_arrived_the_next_request_is_answered() {
    let server = TestServer::start().await;
    let mut connection = KeptConnection::to(&server).await.expect("connects");
    for (path, content_type) in REFUSED {
        for _ in 0..3 {
            // Data and its end are two parts: the library alone would read only the first one.
            connection.send(&chunked(path, content_type, "\0\0\0\0\0")).await.expect("sent");
            let refused = connection.answer().await.expect("an answer");
            assert!(!refused.closes, "{path}: {refused:?}");
            assert_eq!(connection.place_order().await.expect("an answer").status, 201, "after {path}");
        }
    }
}

#[tokio::test]
async fn a_refusal_whose_body_does_not_arrive_announces_the_end_of_the_connection() {
    let server = TestServer::start().await;
    for (path, content_type) in REFUSED {
        let mut connection = KeptConnection::to(&server).await.expect("connects");
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n");
        connection.send(&format!("{head}Content-Length: 9\r\n\r\n\0")).await.expect("sent");
        let refused = connection.answer().await.expect("an answer");
        assert!(refused.closes, "{path}: {refused:?}");
        assert!(connection.ends_in_order().await, "{path}");
    }
}
