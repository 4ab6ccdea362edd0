//! Requests over HTTP/1.1: paths, parameters, headers and JSON. Whatever the input, the service is never at fault.
//!
//! The input is a line with the method and the target, lines of headers, an empty line, and the body.

#![no_main]

use std::cell::RefCell;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use node::Node;

thread_local! {
    static NODE: RefCell<Node> = RefCell::new(Node::start());
}

fn parse(input: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let head = std::str::from_utf8(&input[..end]).ok()?;
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    if method == "CONNECT" || !target.starts_with('/') {
        return None;
    }
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    for line in lines {
        let (name, value) = line.split_once(':')?;
        // These headers control the client library, not the service.
        if ["host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"]
            .contains(&&*name.to_ascii_lowercase())
        {
            return None;
        }
        request = request.header(name, value.trim());
    }
    request.body(Full::new(Bytes::copy_from_slice(input.get(end + 2..).unwrap_or_default()))).ok()
}

fuzz_target!(|input: &[u8]| {
    let Some(request) = parse(input) else { return };
    // A follower never ends.
    let follows = request.headers().get("accept").is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    if follows {
        return;
    }
    let target = request.uri().to_string();
    NODE.with_borrow_mut(|node| {
        let Some(answer) = node.send_http1(request) else { return };
        let is_ours = answer.status < 500 || [503, 505].contains(&answer.status);
        assert!(is_ours, "{target} answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    });
});
