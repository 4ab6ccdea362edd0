//! Describes a failed attempt to connect: the client library's own messages are terse, and do not name the program that replied instead of NATS.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::ports::{io_errors::plainly, tls_errors::certificate_problem};

/// How long a server may take to send the first bytes; NATS sends them at once.
const SPEAKS_WITHIN: Duration = Duration::from_millis(300);
/// How long another one may take to reply, and how long all of it may take.
const REPLIES_WITHIN: Duration = Duration::from_millis(1_500);
const FOUND_WITHIN: Duration = Duration::from_millis(2_000);

/// A description of the client library's error for an attempt.
pub(super) fn in_words(error: &str) -> String {
    let lower = error.to_ascii_lowercase();
    let says = |what: &str| lower.contains(what);
    let words = if says("expected info") || says("unable to parse") {
        NOT_NATS
    } else if says("authorization violation") {
        "authorization violation: it rejects the user, password, token or key, or requires one: give valid ones, as in \
         nats://user:password@host:port, or by --nats-password-file, --nats-token-file, --nats-credentials or --nats-nkey"
    } else if let Some(problem) = certificate_problem(error) {
        problem
    } else if says("unknownissuer") || says("unknown issuer") || says("badsignature") {
        "its certificate is not signed by a trusted authority (--nats-ca FILE)"
    } else if says("invalidcontenttype") {
        "the server there does not speak TLS: write nats:// instead of tls://, and omit --nats-ca, --nats-cert and --nats-key"
    } else if says("notvalidforname") || says("not valid for") {
        "its certificate is for another name than the one in the address: use a name of the server that its certificate has"
    } else if says("certificaterequired") || says("certificate required") {
        "it requires a client certificate (--nats-cert FILE --nats-key FILE)"
    } else if is_silence(error) {
        "no NATS server answers in time"
    } else {
        return plainly(error);
    };
    words.to_owned()
}

const NOT_NATS: &str = "the server there is not NATS";

/// Whether `words`, a description made here, reports that another program answers.
pub(super) fn is_stranger(words: &str) -> bool {
    words.starts_with(NOT_NATS)
}

/// Whether the client library has waited in vain.
pub(super) fn is_silence(error: &str) -> bool {
    error.to_ascii_lowercase().contains("timed out")
}

/// Determines which program listens at `address` after the client library has waited in vain for NATS.
pub(super) async fn who_is_at(address: &str) -> String {
    let spoken = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        if let Some(first) = hear(&mut stream, SPEAKS_WITHIN).await {
            return Some(first);
        }
        // NATS takes this for a PING, Redis replies to it, and a web server refuses it.
        stream.write_all(b"PING\r\n\r\n").await.ok()?;
        hear(&mut stream, REPLIES_WITHIN).await
    };
    let spoken = timeout(FOUND_WITHIN, spoken).await.ok().flatten().unwrap_or_default();
    if spoken.is_empty() || spoken.starts_with(b"INFO ") {
        return in_words("timed out");
    }
    let who = if spoken.starts_with(b"+PONG") || spoken.starts_with(b"-") {
        ": it speaks like a Redis"
    } else if spoken.starts_with(b"HTTP/") {
        ": it speaks HTTP"
    } else {
        ""
    };
    format!("{NOT_NATS}{who}")
}

async fn hear(stream: &mut TcpStream, within: Duration) -> Option<Vec<u8>> {
    let mut first = vec![0; 64];
    let length = timeout(within, stream.read(&mut first)).await.ok()?.ok()?;
    first.truncate(length);
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_program_that_answers_instead_of_nats_is_named() {
        for (answer, says) in [
            (&b"+PONG\r\n"[..], "not NATS: it speaks like a Redis"),
            (b"-NOAUTH Authentication required.\r\n", "not NATS: it speaks like a Redis"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not NATS: it speaks HTTP"),
            (b"SSH-2.0-OpenSSH\r\n", "not NATS"),
            (b"", "no NATS server answers in time"),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                if !answer.starts_with(b"SSH") {
                    let mut asked = [0; 4];
                    stream.read_exact(&mut asked).await.unwrap();
                }
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            });
            let found = who_is_at(&address).await;
            assert!(found.ends_with(says), "{found}");
            server.await.unwrap();
        }
    }

    #[test]
    fn causes_are_described() {
        for (error, says) in [
            ("IO error: Connection refused (os error 111)", "connection refused"),
            ("IO error: Connection reset by peer (os error 104)", "connection reset: the server ended it"),
            ("IO error: expected INFO, got PONG", "is not NATS"),
            ("IO error: invalid peer certificate: UnknownIssuer", "--nats-ca"),
            ("authorization violation: nats: authorization violation", "it rejects the user"),
            ("TLS error: received corrupt message of type InvalidContentType", "does not speak TLS: write nats://"),
            (
                "invalid peer certificate: certificate not valid for name \"127.0.0.1\"",
                "a name of the server that its certificate has",
            ),
            ("something else", "something else"),
        ] {
            assert!(in_words(error).contains(says), "{error}");
        }
    }
}
