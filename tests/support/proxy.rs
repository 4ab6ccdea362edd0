//! A TCP proxy between two programs, with which a test simulates the network: delay, cut, hold back data in one direction or both, and
//! close a connection in the middle of a reply.
//!
//! It runs on its own threads, so that a test's runtime may end or stall without affecting it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::watch,
    task::AbortHandle,
    time::sleep,
};

/// The direction of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the connecting side to the target.
    There,
    /// From the target to the connecting side.
    Back,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    is_cut: bool,
    holds_there: bool,
    holds_back: bool,
    delay: Duration,
}

impl Rules {
    const fn holds(&self, way: Way) -> bool {
        match way {
            Way::There => self.holds_there,
            Way::Back => self.holds_back,
        }
    }
}

/// Listens on its own port and passes each connection on to one target.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    rules: watch::Sender<Rules>,
    /// The number of bytes that may still come back, over all connections, before they are closed; `u64::MAX`: unlimited.
    bytes_back_left: AtomicU64,
    connections: AtomicU64,
}

/// Proxies have their own threads: a test whose runtime is busy, or simulates time, does not delay them.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("proxy").build().unwrap()
    })
}

impl Proxy {
    /// A proxy to the port `target` of this machine, on a free port, that passes everything.
    pub fn to(target: u16) -> Self {
        // Bound here, so that connections are queued from now on.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            target,
            rules: watch::Sender::new(Rules::default()),
            bytes_back_left: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
        });
        let accepting = runtime().spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { port, shared, accepting }
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The number of connections passed on so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes all connections, and each new one, until [`Proxy::heal`].
    pub fn cut(&self) {
        self.change(|rules| rules.is_cut = true);
    }

    /// Holds back all data in one direction, over old and new connections, until [`Proxy::heal`], which delivers it.
    pub fn hold(&self, way: Way) {
        self.change(|rules| match way {
            Way::There => rules.holds_there = true,
            Way::Back => rules.holds_back = true,
        });
    }

    /// Delays all data by this time (up to twice that if more follows immediately), until [`Proxy::heal`].
    pub fn delay(&self, by: Duration) {
        self.change(|rules| rules.delay = by);
    }

    /// Closes all connections, once, when this many more bytes have come back from the target: in the middle of a reply.
    pub fn close_after(&self, bytes_back: u64) {
        self.shared.bytes_back_left.store(bytes_back, Ordering::SeqCst);
    }

    /// Passes everything again.
    pub fn heal(&self) {
        self.shared.bytes_back_left.store(u64::MAX, Ordering::SeqCst);
        self.change(|rules| *rules = Rules::default());
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((inner, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        if !shared.rules.borrow().is_cut {
            tokio::spawn(pass_on(inner, Arc::clone(&shared)));
        }
    }
}

async fn pass_on(inner: TcpStream, shared: Arc<Shared>) {
    let mut rules = shared.rules.subscribe();
    let target = SocketAddr::from(([127, 0, 0, 1], shared.target));
    let Ok(outer) = TcpStream::connect(target).await else { return };
    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let (inner_read, inner_write) = inner.into_split();
    let (outer_read, outer_write) = outer.into_split();
    tokio::select! {
        () = pump(inner_read, outer_write, Way::There, &shared) => {}
        () = pump(outer_read, inner_write, Way::Back, &shared) => {}
        _ = rules.wait_for(|rules| rules.is_cut) => {}
    }
}

/// Passes bytes in one direction until either end closes, or the rules require it.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, shared: &Shared) {
    let mut rules = shared.rules.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let delay = rules.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if rules.wait_for(|rules| !rules.holds(way)).await.is_err() {
            return;
        }
        let allowed = if way == Way::Back { shared.take_back(count) } else { count };
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return;
        }
        if allowed < count {
            // The other end gets the permitted bytes, and then the end of the stream.
            let _ = to.shutdown().await;
            shared.bytes_back_left.store(u64::MAX, Ordering::SeqCst);
            return;
        }
    }
}

impl Shared {
    /// The number of bytes, up to `count`, that may still come back.
    fn take_back(&self, count: usize) -> usize {
        let left = self.bytes_back_left.load(Ordering::SeqCst);
        if left == u64::MAX {
            return count;
        }
        let allowed = left.min(count as u64);
        self.bytes_back_left.store(left - allowed, Ordering::SeqCst);
        usize::try_from(allowed).unwrap_or(count)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::{Proxy, Way};

    /// A connection through a proxy: both ends.
    fn connected() -> (Proxy, TcpStream, TcpStream) {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(target.local_addr().unwrap().port());
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        let (server, _) = target.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        (proxy, client, server)
    }

    fn read(from: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn one_way_is_held_while_the_other_passes_and_nothing_is_lost() {
        let (proxy, mut client, mut server) = connected();
        proxy.hold(Way::There);
        client.write_all(b"question").unwrap();
        server.write_all(b"news").unwrap();
        assert_eq!(read(&mut client, 4), b"news");
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let held = server.read(&mut [0; 8]).unwrap_err();
        assert!(matches!(held.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{held}");
        server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        proxy.heal();
        assert_eq!(read(&mut server, 8), b"question");
    }

    #[test]
    fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_healed() {
        let (proxy, mut client, mut server) = connected();
        proxy.cut();
        assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0);
        assert_eq!(server.read(&mut [0; 8]).unwrap_or(0), 0);
        let mut refused = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        refused.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(refused.read(&mut [0; 8]).unwrap_or(0), 0);
        assert_eq!(proxy.connections(), 1);
    }

    #[test]
    fn an_answer_is_cut_in_its_middle() {
        let (proxy, mut client, mut server) = connected();
        proxy.close_after(3);
        server.write_all(b"answer").unwrap();
        let mut got = Vec::new();
        let _ = client.read_to_end(&mut got);
        assert_eq!(got, b"ans");
    }

    #[test]
    fn delayed_data_arrives_later() {
        let (proxy, mut client, mut server) = connected();
        proxy.delay(Duration::from_millis(200));
        let sent = Instant::now();
        client.write_all(b"x").unwrap();
        read(&mut server, 1);
        assert!(sent.elapsed() >= Duration::from_millis(200));
    }
}
