//! Durable consumers of other programs on the stream: messages that one of them still needs are not dropped.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    backends::nats::{connection::Nats, pull_reader},
    ports::message_bus::BusError,
};

/// How long a list may take: a cluster waits 4 s for the servers of unavailable consumers before it replies without them.
const LISTED_WITHIN: Duration = Duration::from_secs(6);

/// A page of the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// The positions of the consumers that still need messages.
    floors: Vec<(u64, String)>,
    /// How many consumers the page covers.
    count: usize,
}

/// The positions of the foreign durable consumers that need messages of the stream; 0 for a consumer whose position is unknown.
///
/// # Errors
/// [`BusError::Unavailable`].
pub(super) async fn floors(nats: &Nats, stream: &str) -> Result<Vec<(u64, String)>, BusError> {
    let mut floors = Vec::new();
    let mut offset = 0;
    loop {
        let what = format!("CONSUMER.LIST.{stream}");
        let answer: Result<Value, _> = nats.ask_within(&what, &json!({ "offset": offset }), LISTED_WITHIN).await;
        let answer =
            answer.map_err(|error| BusError::Unavailable(format!("the consumers of the stream {stream}: {error}")))?;
        let page = read(&answer);
        floors.extend(page.floors);
        offset += page.count;
        let total = answer["total"].as_u64().unwrap_or_default();
        if offset as u64 >= total {
            return Ok(floors);
        }
        if page.count == 0 {
            // An older server does not name the consumers whose state it does not know now.
            floors.push((0, "whose name is not known, on a server that is unavailable".to_owned()));
            return Ok(floors);
        }
    }
}

fn read(answer: &Value) -> Page {
    let list = |key: &str| answer[key].as_array().map_or(&[][..], Vec::as_slice);
    // Their state is unknown, though a server may add them to the others itself.
    let missing: Vec<&str> = list("missing").iter().filter_map(Value::as_str).collect();
    let mut page = Page::default();
    let mut listed = Vec::new();
    for info in list("consumers") {
        page.count += 1;
        let name = info["name"].as_str().or_else(|| info["config"]["name"].as_str());
        let name = name.or_else(|| info["config"]["durable_name"].as_str()).unwrap_or_default();
        listed.push(name);
        let config = &info["config"];
        let keeps = config["durable_name"].is_string() && config["ack_policy"].as_str() != Some("none");
        if !keeps {
            continue;
        }
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        // A consumer of few subjects may have acknowledged nothing for long and still need nothing.
        let is_done = number(&info["num_pending"]) == 0 && number(&info["num_ack_pending"]) == 0;
        if missing.contains(&name) {
            page.floors.push((0, unknown(name)));
        } else if !is_done {
            page.floors.push((number(&info["ack_floor"]["stream_seq"]), name.to_owned()));
        }
    }
    for name in missing.into_iter().filter(|name| !listed.contains(name)) {
        page.count += 1;
        // Readers are ignored: their owners keep their positions themselves.
        if !pull_reader::is_ours(name) {
            page.floors.push((0, unknown(name)));
        }
    }
    page
}

fn unknown(name: &str) -> String {
    format!("{name}, whose server is unavailable (if it is no longer needed: nats consumer rm)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_foreign_consumers_may_need_are_kept_and_our_readers_need_none() {
        let durable = |name: &str, pending: u64, floor: u64| {
            json!({
                "name": name, "config": { "durable_name": name, "ack_policy": "explicit" }, "num_pending": pending,
                "num_ack_pending": 0, "ack_floor": { "stream_seq": floor },
            })
        };
        let ephemeral = json!({ "name": "a1b2", "config": { "ack_policy": "none" }, "num_pending": 9 });
        let away = json!({ "config": { "durable_name": "away", "ack_policy": "explicit" } });
        let answer = json!({
            "total": 6,
            "consumers": [durable("slow", 5, 70), durable("done", 0, 10), ephemeral, away],
            "missing": ["away", pull_reader::fresh_name(), "silent"],
        });
        let Page { floors, count } = read(&answer);
        let floors: Vec<_> = floors.iter().map(|(floor, name)| (*floor, name.split(',').next().unwrap())).collect();
        assert_eq!((floors, count), (vec![(70, "slow"), (0, "away"), (0, "silent")], 6));
        assert_eq!(read(&json!({ "total": 0, "consumers": [] })), Page::default());
        assert_eq!(read(&json!({ "total": 0 })), Page::default());
    }
}
