//! Names and ports that no other test has.

use std::{
    fs::{self, File},
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

/// A prefix that no other test has.
pub fn fresh_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on which nothing listens, and which no other test gets, of this process or of others that run at the same time.
pub fn free_port() -> u16 {
    let folder = std::env::temp_dir().join("ordersystem-test-ports");
    fs::create_dir_all(&folder).unwrap();
    // Below the ephemeral ports: while a server is down, or not up yet, no connection of this machine takes its port.
    loop {
        let port = fastrand::u16(20_000..32_000);
        let taken = File::create(folder.join(port.to_string())).unwrap();
        if taken.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Locked until this process ends.
            std::mem::forget(taken);
            return port;
        }
    }
}
