//! The servers of an address, and the credentials in it or in files.

use std::{borrow::Cow, io::Read as _, path::Path};

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use super::options::NatsAccess;
use crate::private_files;

/// The client's identity on the server.
pub(super) enum Login {
    Nobody,
    Token(String),
    User(String, String),
}

impl Login {
    pub(super) fn into_options(self) -> ConnectOptions {
        match self {
            Self::Nobody => ConnectOptions::new(),
            Self::Token(token) => ConnectOptions::with_token(token),
            Self::User(user, password) => ConnectOptions::with_user_and_password(user, password),
        }
    }
}

/// The servers without user and password, which the client library would send exactly as they appear in the address, encoded.
pub(super) fn addresses(url: &str) -> Result<(Vec<ServerAddr>, Login), String> {
    let (mut servers, mut login) = (Vec::new(), Login::Nobody);
    for url in split_servers(url) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        // Everything up to the last '@' is user and password, as in the configuration's parser.
        let (user_info, host) = rest.rsplit_once('@').map_or((None, rest), |(user_info, host)| (Some(user_info), host));
        if let (Some(user_info), Login::Nobody) = (user_info, &login) {
            login = match user_info.split_once(':') {
                Some((user, password)) => Login::User(decode(user), decode(password)),
                None => Login::Token(decode(user_info)),
            };
        }
        let server = format!("{scheme}://{host}").parse().map_err(|_| "the address of NATS is invalid".to_owned())?;
        servers.push(server);
    }
    Ok((servers, login))
}

/// A comma begins another server only if an address can begin there: passwords may contain commas.
fn split_servers(url: &str) -> Vec<&str> {
    let mut servers = Vec::new();
    let mut rest = url;
    let mut from = 0;
    while let Some(comma) = rest[from..].find(',').map(|at| from + at) {
        let (before, after) = (&rest[..comma], &rest[comma + 1..]);
        let password_goes_on = after.contains('@') && !after.contains("://");
        if password_goes_on {
            from = comma + 1;
        } else {
            servers.push(before);
            (rest, from) = (after, 0);
        }
    }
    servers.push(rest);
    servers
}

/// Decodes percent-encoded special characters; text that is not valid encoding stays unchanged.
fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Cow::into_owned)
}

/// An IPv6 address in brackets, any other host as it is.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Adds the contents of the files.
pub(super) fn with_access(connect: ConnectOptions, access: &NatsAccess) -> Result<ConnectOptions, String> {
    let mut connect = connect;
    if let Some(file) = &access.credentials {
        let unfit = |_| format!("nats-credentials: {} is not a credentials file with a JWT and a seed", file.display());
        connect = connect.credentials(&read_secret(file, "nats-credentials")?).map_err(unfit)?;
    }
    if let Some(file) = &access.nkey {
        connect = connect.nkey(seed(&read_secret(file, "nats-nkey")?, file)?);
    }
    if let Some(file) = &access.ca {
        read(file, "nats-ca")?;
        connect = connect.add_root_certificates(file.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &access.certificate {
        read(certificate, "nats-cert")?;
        read_secret(key, "nats-key")?;
        connect = connect.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(connect)
}

fn read(file: &Path, setting: &str) -> Result<String, String> {
    private_files::read_text(file).map_err(|error| format!("{setting}: {} cannot be read: {error}", file.display()))
}

fn read_secret(file: &Path, setting: &str) -> Result<String, String> {
    let mut text = String::new();
    let opened = private_files::open_secret(file);
    let read = opened.and_then(|mut opened| Ok(opened.read_to_string(&mut text)?));
    read.map(|_| text).map_err(|error| format!("{setting}: {} cannot be read: {error}", file.display()))
}

/// The seed in the text of a file: the only line that is a seed.
fn seed(text: &str, file: &Path) -> Result<String, String> {
    let seed = text.lines().map(str::trim).find(|line| line.starts_with('S') && line.len() > 40);
    seed.map(str::to_owned).ok_or_else(|| format!("nats-nkey: {} holds no seed of an nkey (SU…)", file.display()))
}

/// Host and port of a server.
pub(super) fn address(server: &ServerAddr) -> String {
    format!("{}:{}", bracketed(server.host()), server.port())
}
