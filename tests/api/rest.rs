//! Helpers of the REST tests.

use std::sync::Arc;

use ordersystem::{node::Backends, ports::clock::SystemClock};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::TestServer;

/// A server, and a client that does not follow redirects.
pub struct Rest {
    pub server: TestServer,
    pub client: Client,
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Rest {
    pub async fn start() -> Self {
        Self::of(TestServer::start().await)
    }

    pub async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        Self::of(TestServer::start_with(settings).await)
    }

    pub async fn start_on(backends: Backends) -> Self {
        Self::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await)
    }

    pub fn of(server: TestServer) -> Self {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        Self { server, client }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.server.url(path))
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    /// A POST as `curl -d` sends it with a JSON content type.
    pub fn posting(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        self.request(Method::POST, path).header("Content-Type", "application/json").body(body.into())
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::of(self.posting(path, body.to_string())).await
    }

    /// Places an order of 10 dollars; returns its id.
    pub async fn order(&self, customer: &str) -> String {
        let body = json!({ "customerId": customer, "items": [{ "productId": "p", "quantity": 1, "price": 10 }] });
        let reply = self.post("/orders", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.string("orderId")
    }

    /// Opens server-sent events.
    pub async fn listen(&self, path: &str, last_event_id: Option<&str>) -> Sse {
        let mut request = self.request(Method::GET, path).header("Accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        Sse::of(request.send().await.expect("a reply"))
    }
}

impl Reply {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("a reply");
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.expect("a body") }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).to_str().expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn string(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}")).to_owned()
    }

    /// Asserts that the reply is a problem with this status and reason; returns it.
    pub fn problem(&self, status: u16, reason: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["reason"], reason, "{problem}");
        assert_eq!(problem["status"], status);
        let kind = format!("urn:ordersystem:problem:{}", reason.to_lowercase().replace('_', "-"));
        assert_eq!(problem["type"], kind.as_str());
        problem
    }

    /// Asserts that the reply is a refusal of bad input; returns the fields that it names.
    pub fn violations(&self) -> Vec<String> {
        let problem = self.problem(400, "INVALID_ARGUMENT");
        let violations = problem["violations"].as_array().expect("violations");
        violations.iter().map(|violation| violation["field"].as_str().expect("text").to_owned()).collect()
    }

    /// The path and query of the next page.
    pub fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?.to_str().expect("text");
        let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
        Some(target.unwrap_or_else(|| panic!("{link}")).to_owned())
    }
}

/// An open stream of server-sent events.
pub struct Sse {
    response: Response,
    buffer: String,
}

/// One block of a stream: its `event`, `id` and `data`; absent ones are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub event: String,
    pub id: String,
    pub data: String,
}

impl Sse {
    /// The stream of a reply.
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next block that has data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Block> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let parsed = parse(block);
                self.buffer = rest.to_owned();
                if !parsed.data.is_empty() {
                    return Some(parsed);
                }
            }
            let chunk = tokio::time::timeout(std::time::Duration::from_secs(10), self.response.chunk());
            let chunk = chunk.await.expect("the stream moves").expect("no broken stream")?;
            self.buffer.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    /// The next block that is an event of an order.
    pub async fn event(&mut self) -> (String, Value) {
        loop {
            let block = self.next().await.expect("the stream continues");
            if block.event.is_empty() {
                return (block.id, serde_json::from_str(&block.data).expect("JSON"));
            }
        }
    }
}

fn parse(block: &str) -> Block {
    let mut parsed = Block::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("event", value)) => parsed.event = value.to_owned(),
            Some(("id", value)) => parsed.id = value.to_owned(),
            Some(("data", value)) => parsed.data = value.to_owned(),
            _ => {}
        }
    }
    parsed
}
