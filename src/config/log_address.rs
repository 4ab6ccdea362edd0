//! The address of a log as one command line argument: `embedded:DIR`, `redis://…`, `nats://…`.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    secrets::SecretFiles,
    typed::{self, NatsAccess},
    url::ServerUrl,
    values,
};

/// A log in one of the durable backends. `Display` hides passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogAddress {
    /// In a data folder.
    Embedded(PathBuf),
    /// In Redis.
    Redis(ServerUrl),
    /// In NATS JetStream.
    Nats(ServerUrl),
}

impl FromStr for LogAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (backend, rest) = text.split_once(':').unwrap_or((text, ""));
        // `redis:host:port` as well as `redis://host:port`.
        let server = |schemes: &[&str]| {
            let address = if rest.starts_with("//") { text } else { rest };
            ServerUrl::parse(address, schemes).map_err(|why| format!("the address of {backend} {why}"))
        };
        match backend {
            "embedded" if rest.is_empty() => Err("embedded: needs a folder, as in embedded:DIR".to_owned()),
            "embedded" => Ok(Self::Embedded(PathBuf::from(rest))),
            "redis" | "rediss" | "redis+sentinel" | "rediss+sentinel" => {
                server(values::schemes("redis")).map(Self::Redis)
            }
            "nats" | "tls" => server(values::schemes("nats")).map(Self::Nats),
            // Does not repeat the value, which may contain a password.
            _ => Err("a log is embedded:DIR, redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or nats://HOST:PORT"
                .to_owned()),
        }
    }
}

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_backend = |backend: &str, url: &ServerUrl| {
            let url = url.to_string();
            if url.contains("://") { url } else { format!("{backend}:{url}") }
        };
        match self {
            Self::Embedded(dir) => write!(f, "embedded:{}", dir.display()),
            Self::Redis(url) => f.write_str(&with_backend("redis", url)),
            Self::Nats(url) => f.write_str(&with_backend("nats", url)),
        }
    }
}

/// A log with the prefix of its keys, or of its streams and subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRef {
    /// Its address.
    pub address: LogAddress,
    /// As in `--redis-prefix` or `--nats-prefix`; unused for a folder.
    pub prefix: String,
    /// The reader's access to NATS, besides the address.
    pub nats_access: NatsAccess,
}

impl LogRef {
    /// Validates the prefix for the backend.
    ///
    /// # Errors
    /// A description of the error.
    pub fn new(address: LogAddress, prefix: Option<&str>) -> Result<Self, String> {
        let text = prefix.unwrap_or("ordersystem");
        let prefix = match (&address, prefix) {
            (LogAddress::Embedded(_), Some(_)) => return Err(format!("{address} takes no prefix")),
            (LogAddress::Nats(_), _) => typed::subject_name(text)?,
            (LogAddress::Embedded(_) | LogAddress::Redis(_), _) => typed::short_name(text)?,
        };
        Ok(Self { address, prefix, nats_access: NatsAccess::default() })
    }
}

impl LogRef {
    /// Adds these files, if the log is in NATS.
    #[must_use]
    pub fn with_nats_access(self, access: &NatsAccess) -> Self {
        match self.address {
            LogAddress::Nats(_) => Self { nats_access: access.clone(), ..self },
            LogAddress::Embedded(_) | LogAddress::Redis(_) => self,
        }
    }
}

impl LogRef {
    /// The broker of the log, if its address contains neither password nor token: only then a secret file may apply.
    #[must_use]
    pub fn lacks_password_of(&self) -> Option<&'static str> {
        match &self.address {
            LogAddress::Redis(url) if !url.has_password() => Some("redis"),
            LogAddress::Nats(url) if !url.has_password() => Some("nats"),
            _ => None,
        }
    }

    /// Adds the secrets from these files, unless the address has a password.
    ///
    /// # Errors
    /// The setting whose file is unusable, and the reason.
    pub fn with_secrets(self, files: &SecretFiles) -> Result<Self, (&'static str, String)> {
        if self.lacks_password_of().is_none() {
            return Ok(self);
        }
        let address = match self.address {
            LogAddress::Redis(url) => LogAddress::Redis(files.redis(&url)?),
            LogAddress::Nats(url) => LogAddress::Nats(files.nats(&url)?),
            folder @ LogAddress::Embedded(_) => folder,
        };
        Ok(Self { address, ..self })
    }
}

impl fmt::Display for LogRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            LogAddress::Embedded(_) => self.address.fmt(f),
            LogAddress::Redis(_) | LogAddress::Nats(_) => write!(f, "{} ({})", self.address, self.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_named_with_or_without_slashes_and_passwords_are_not_shown() {
        for (text, shown) in [
            ("embedded:/var/lib/orders", "embedded:/var/lib/orders"),
            ("embedded:data", "embedded:data"),
            ("redis://me:secret@cache:6379", "redis://me:***@cache:6379"),
            ("redis:cache:6379", "redis:cache:6379"),
            ("nats:localhost:4222", "nats:localhost:4222"),
            ("nats://localhost", "nats://localhost"),
            ("tls://localhost", "tls://localhost"),
        ] {
            assert_eq!(text.parse::<LogAddress>().unwrap().to_string(), shown);
        }
        for text in
            ["", "embedded", "embedded:", "/var/lib/orders", "redis:", "redis://", "http://x", "sqlite:x", "nats:a b"]
        {
            assert!(text.parse::<LogAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_prefix_is_as_the_backend_wants_it() {
        let named = |address: &str, prefix| LogRef::new(address.parse().unwrap(), prefix);
        assert_eq!(named("redis:cache", None).unwrap().prefix, "ordersystem");
        assert_eq!(named("redis:cache", Some("a.b")).unwrap().prefix, "a.b");
        for (address, prefix) in [("nats:x", "a.b"), ("nats:x", ""), ("redis:x", "a b"), ("embedded:x", "a")] {
            assert!(named(address, Some(prefix)).is_err(), "{address} {prefix:?}");
        }
    }
}
