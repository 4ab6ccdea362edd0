//! Stored events: damaged ones are refused, and valid ones survive a round trip.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ordersystem::codec::{self, EventHeader};

fuzz_target!(|input: &[u8]| {
    let payload = Bytes::copy_from_slice(input);
    if let Ok(header) = EventHeader::read(&payload) {
        // Each may fail, but must not panic.
        let _ = (header.kind().is_ok(), header.customer_id().is_ok(), header.at().is_ok(), header.created().is_ok());
    }
    let Ok(event) = codec::decode(input) else { return };
    let header = EventHeader::read(&payload).expect("what can be decoded has a header");
    header.kind().expect("a kind");
    header.at().expect("a time");
    let again = codec::decode(input).expect("as before");
    assert_eq!(event, again);
});
