//! The bytes of one connection, with a time limit for a client that does not read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::activity::Activity;
use crate::server::sending::Sending;

pin_project! {
    /// The two directions of a connection.
    #[project = TimedProjection]
    pub(super) struct Timed<I> {
        #[pin]
        io: I,
        activity: Arc<Activity>,
        sending: Sending,
        // How long a client may read nothing.
        taken_within: Duration,
        // Since when bytes have been waiting to be read.
        write_limit: Option<Pin<Box<Sleep>>>,
    }
}

impl<I> Timed<I> {
    pub const fn new(io: I, activity: Arc<Activity>, sending: Sending, taken_within: Duration) -> Self {
        Self { io, activity, sending, taken_within, write_limit: None }
    }
}

impl<I> TimedProjection<'_, I> {
    /// The result of a write, or an error if it has taken too long.
    fn limited<T>(self, task: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if self.write_limit.take().is_some() {
                self.sending.set_blocked(false);
            }
            return polled;
        }
        let limit = self.write_limit.get_or_insert_with(|| {
            self.sending.set_blocked(true);
            Box::pin(sleep(*self.taken_within))
        });
        limit.as_mut().poll(task).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead> AsyncRead for Timed<I> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let polled = this.io.poll_read(task, buf);
        this.activity.has_read(buf.filled().len() - before);
        polled
    }
}

impl<I: AsyncWrite> AsyncWrite for Timed<I> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        let polled = this.io.as_mut().poll_write(task, bytes);
        this.limited(task, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        let polled = this.io.as_mut().poll_write_vectored(task, slices);
        this.limited(task, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let polled = this.io.as_mut().poll_flush(task);
        this.limited(task, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let polled = this.io.as_mut().poll_shutdown(task);
        this.limited(task, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::{super::activity::Connections, *};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_has_a_minute_from_its_last_read() {
        let (server, mut client) = tokio::io::duplex(10);
        let entered = Connections::default().enter();
        let sending = Sending::unbounded();
        let mut server = Timed::new(server, Arc::clone(&entered.activity), sending.clone(), Duration::from_secs(60));
        server.write_all(&[0; 10]).await.expect("there is room");
        let begun = Instant::now();
        let write = tokio::spawn(async move { server.write_all(&[0; 30]).await });
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(!sending.reservation().may_wait_uncounted());
        client.read_exact(&mut [0; 10]).await.expect("read");
        let error = write.await.expect("no panic").expect_err("too slow");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 119);
    }
}
