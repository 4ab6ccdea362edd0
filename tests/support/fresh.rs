//! Names and ports that no other test has.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

/// A prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on which nothing listens.
pub fn free_port() -> u16 {
    // Below the ephemeral ports: while a server is down, or not up yet, no connection of this machine takes its port.
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
