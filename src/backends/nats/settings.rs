//! The settings of NATS.

use super::connection::{NatsAccess, NatsOptions};
use crate::{
    backends::descriptor::{Files, Unusable},
    settings::{
        ConfigError, Kind, ServerUrl, Setting, UrlForm, Values,
        parse::{list, quoted, short_name},
        secrets,
    },
};

const PASSWORD_FILE: &str = "nats-password-file";
const TOKEN_FILE: &str = "nats-token-file";

/// The settings that name a file with a secret.
pub(super) const SECRETS: &[&str] = &[PASSWORD_FILE, TOKEN_FILE];

/// The form of an address.
pub(super) const FORM: UrlForm =
    UrlForm { schemes: &["nats", "tls"], takes_many: true, option: None, check: |_, _| Ok(()) };

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "nats",
        Kind::ServerUrl(&FORM),
        "nats://localhost:4222",
        "NATS server with JetStream: host:port or nats://[user:password@]host:port, several comma separated",
    )
    .or_appsettings("Nats.Url")
    .common(),
    Setting::new(
        "nats-prefix",
        Kind::Text,
        "ordersystem",
        "Prefix of streams and subjects in NATS: 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    Setting::new(
        "nats-replicas",
        Kind::Choice(&["1", "3", "5"]),
        "1",
        "Replicas of each stream that the node creates in a NATS cluster",
    ),
    Setting::optional(
        PASSWORD_FILE,
        Kind::File,
        "File with the password for NATS; its user is in the address: nats://user@host:port",
    ),
    Setting::optional(TOKEN_FILE, Kind::File, "File with the token for NATS"),
    Setting::optional(
        "nats-credentials",
        Kind::File,
        "Credentials file (.creds) for NATS: a JWT and the seed of an nkey",
    ),
    Setting::optional("nats-nkey", Kind::File, "File with the seed of an nkey for NATS"),
    Setting::optional(
        "nats-ca",
        Kind::File,
        "PEM file with the authorities that sign the certificates of NATS, in addition to those of the system",
    ),
    Setting::optional("nats-cert", Kind::File, "PEM file with the client certificate for NATS"),
    Setting::optional("nats-key", Kind::File, "PEM file with the private key of that certificate"),
    Setting::new(
        "nats-monitor",
        Kind::List,
        "",
        "Monitoring ports of all NATS servers, host:port comma separated, to read whether they sync; empty: port 8222 of their hosts",
    ),
    Setting::new(
        "nats-synced",
        Kind::Flag,
        "false",
        "Assert that all NATS servers have sync_interval: always, where their monitoring ports cannot be reached",
    ),
];

/// The values of the settings.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// The servers, with their password or token.
    pub server: ServerUrl,
    /// The prefix of streams and subjects: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// The number of replicas of a stream that is created: 1, 3 or 5.
    pub replicas: usize,
    /// Credentials and trust, besides the address.
    pub access: NatsAccess,
    /// The monitoring ports of the servers, `host:port`; empty for the default port of their hosts.
    pub monitors: Vec<String>,
    /// Whether the operator asserts that all servers sync before they acknowledge.
    pub synced: bool,
}

impl NatsSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting that is invalid, and why.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        let server = values.parse("nats", |text| FORM.parse(text))?;
        let files = values.files(SETTINGS);
        let unusable = |(key, what): Unusable| values.error(key, what);
        Ok(Self {
            server: unlock(&server, &files).map_err(unusable)?,
            prefix: values.parse("nats-prefix", subject_name)?,
            replicas: values.integer("nats-replicas")?,
            access: access(&files).map_err(unusable)?,
            monitors: values.parse("nats-monitor", host_ports)?,
            synced: values.switch("nats-synced")?,
        })
    }

    /// The options of a connection.
    pub(super) fn options(&self) -> NatsOptions {
        NatsOptions {
            access: self.access.clone(),
            replicas: self.replicas,
            monitors: self.monitors.clone(),
            synced: self.synced,
            ..NatsOptions::new(self.server.expose(), self.prefix.as_str())
        }
    }
}

/// The address with the password or the token from its file.
pub(super) fn unlock(address: &ServerUrl, files: &Files) -> Result<ServerUrl, Unusable> {
    match (files.get(PASSWORD_FILE), files.get(TOKEN_FILE)) {
        (Some(_), Some(_)) => Err((TOKEN_FILE, "there is a file with a password: give one of the two".to_owned())),
        (Some(_), None) if address.user().is_none() => {
            Err((PASSWORD_FILE, "the address names no user for it: nats://user@host:port".to_owned()))
        }
        (Some(file), None) => {
            let unusable = |what| (PASSWORD_FILE, what);
            let password = secrets::read(file).map_err(unusable)?;
            address.with_password(&password, "nats").map_err(unusable)
        }
        (None, Some(file)) => {
            let unusable = |what| (TOKEN_FILE, what);
            let token = secrets::read(file).map_err(unusable)?;
            address.with_token(&token, "nats").map_err(unusable)
        }
        (None, None) => Ok(address.clone()),
    }
}

/// The access that the files give.
pub(super) fn access(files: &Files) -> Result<NatsAccess, Unusable> {
    let file = |key| files.get(key).cloned();
    let (credentials, nkey) = (file("nats-credentials"), file("nats-nkey"));
    if credentials.is_some() && nkey.is_some() {
        let what = "a credentials file holds a key of its own: give one of the two";
        return Err(("nats-nkey", what.to_owned()));
    }
    let certificate = match (file("nats-cert"), file("nats-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(("nats-cert", "needs its private key: --nats-key FILE".to_owned())),
        (None, Some(_)) => return Err(("nats-key", "needs its certificate: --nats-cert FILE".to_owned())),
    };
    Ok(NatsAccess { credentials, nkey, ca: file("nats-ca"), certificate })
}

/// A name that is a single token of a subject, which dots separate.
pub(super) fn subject_name(text: &str) -> Result<String, String> {
    match short_name(text) {
        Ok(name) if !name.contains('.') => Ok(name),
        _ => Err(format!("{} is not 1 to 64 of A-Z a-z 0-9 _ -", quoted(text))),
    }
}

/// `host:port`, comma separated, each optionally prefixed with `http://`.
fn host_ports(text: &str) -> Result<Vec<String>, String> {
    let address = |text: &str| {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let port = rest.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>().unwrap_or_default()));
        match port {
            Some((host, 1..)) if !host.is_empty() && !host.contains(['/', '@', ' ']) => Ok(rest.to_owned()),
            _ => Err(format!("{} is not host:port", quoted(text))),
        }
    };
    list(text).into_iter().map(address).collect()
}
