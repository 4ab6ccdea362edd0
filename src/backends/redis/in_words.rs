//! Describes failures of connections for operators.

use redis::{ConnectionAddr, ConnectionInfo, RedisError};

use crate::ports::{io_errors::plainly, tls_errors::certificate_problem};

/// The text for a server that closes a connection at once and has served before.
pub(super) const ENDS_OR_STARTS: &str = "it closes the connection at once, as a server does while it stops or starts";

/// Whether the connection to a server uses TLS.
pub(super) fn is_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

/// A human-readable reason why a server did not answer as Redis does. A server that `was_reached` before is assumed to use the same protocol.
pub(super) fn in_words(error: &RedisError, is_tls: bool, was_reached: bool) -> String {
    let text = error.to_string();
    if error.kind() == redis::ErrorKind::Parse {
        return "the server there is not Redis: it speaks another protocol".to_owned();
    }
    if error.is_connection_refusal() {
        return "connection refused: nothing listens there".to_owned();
    }
    if error.is_timeout() {
        // A server without TLS waits for the rest of a supposed command.
        let perhaps = if is_tls && !was_reached {
            ", as from a server that does not speak TLS (then write redis://)"
        } else {
            ""
        };
        return format!("no answer in time{perhaps}");
    }
    if let Some(problem) = certificate_problem(&text) {
        return format!("{problem} ({text})");
    }
    // A bad signature comes from an authority that has the name of a trusted one and another key.
    if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        return format!(
            "its certificate is not signed by a trusted authority: name the file of the authority with --redis-ca or in SSL_CERT_FILE ({text})"
        );
    }
    if text.contains("InvalidContentType") {
        return "the server there does not speak TLS: use an address with redis://".to_owned();
    }
    if let Some(names) = wrong_name(&text) {
        return format!(
            "its certificate is for another name than the one in the address{names}: use a name of the server that its certificate has"
        );
    }
    if error.is_connection_dropped() && was_reached {
        return format!("{ENDS_OR_STARTS}: {}", plainly(&text));
    }
    if error.is_connection_dropped() && !is_tls {
        return format!(
            "it closes the connection at once, as a server that speaks TLS does (then write rediss://): {}",
            plainly(&text)
        );
    }
    plainly(&text)
}

/// Whether a certificate is not valid for the requested name; with the names that it is valid for, if the library gives them.
fn wrong_name(text: &str) -> Option<String> {
    if !text.contains("not valid for name") && !text.contains("NotValidForName") {
        return None;
    }
    let names = text.split_once("only valid for ").map(|(_, names)| names.trim_end_matches(')'));
    Some(names.map_or_else(String::new, |names| format!(" (it is for {names})")))
}
