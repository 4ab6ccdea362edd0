//! The processes under load.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A server process; ended when dropped.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
}

impl Server {
    /// The service, as it is released.
    pub async fn service() -> Self {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ordersystem"));
        command.args(["--log-level", "warn", "--port", &address.port().to_string()]);
        Self::start(command, address).await
    }

    /// The service on a store: "embedded" in `folder`, "redis" where REDIS_URL says; `None` if it does not.
    pub async fn service_on(store: &str, folder: &Path) -> Option<Self> {
        let address = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ordersystem"));
        command.args(["--log-level", "error", "--port", &address.port().to_string(), "--persistence", store]);
        match store {
            "embedded" => command.arg("--data-dir").arg(folder),
            "redis" => command.args(["--redis", &std::env::var("REDIS_URL").ok()?]),
            _ => &mut command,
        };
        Some(Self::start(command, address).await)
    }

    /// A server of this program that does nothing but answer.
    pub async fn ceiling(kind: &str) -> Self {
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--ceiling", kind]).env("CEILING_ADDRESS", address.to_string());
        Self::start(command, address).await
    }

    async fn start(mut command: Command, address: SocketAddr) -> Self {
        let process = command.stdout(Stdio::null()).spawn().expect("starts");
        let server = Self { address, process };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no server at {address} after 5 s");
    }

    /// User and system time of the process so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("/proc");
        // Fields 14 and 15, counted from 1; the second is the name in parentheses, which may hold spaces.
        let after_name = &stat[stat.rfind(')').expect("stat") + 2..];
        let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
        // USER_HZ is 100 on every Linux that matters.
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
