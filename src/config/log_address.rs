//! The address of a log as one command line argument: `embedded:DIR`, `redis://…`, `nats://…`.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use crate::{
    backends::{
        REGISTRY,
        descriptor::{Descriptor, Files, FolderLogs, LogTools, ServerLogs, Unusable},
    },
    settings::{Kind, ServerUrl},
};

/// A log in one of the durable backends. `Display` hides passwords.
#[derive(Clone)]
pub enum LogAddress {
    /// In a folder.
    Folder {
        /// The backend.
        backend: &'static Descriptor,
        /// How it opens folders.
        logs: &'static FolderLogs,
        /// The folder.
        dir: PathBuf,
    },
    /// On a server.
    Server {
        /// The backend.
        backend: &'static Descriptor,
        /// How it opens logs.
        logs: &'static ServerLogs,
        /// The server.
        url: ServerUrl,
    },
}

impl FromStr for LogAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        for &backend in REGISTRY {
            match &backend.log_tools {
                Some(LogTools::Folder(_)) if word == backend.name && rest.is_empty() => {
                    return Err(format!("{word}: needs a folder, as in {word}:DIR"));
                }
                Some(LogTools::Folder(logs)) if word == backend.name => {
                    return Ok(Self::Folder { backend, logs, dir: PathBuf::from(rest) });
                }
                Some(LogTools::Server(logs)) if logs.form.schemes.contains(&word) => {
                    // `redis:host:port` as well as `redis://host:port`.
                    let address = if rest.starts_with("//") { text } else { rest };
                    let url = logs.form.parse(address).map_err(|why| format!("the address of {word} {why}"))?;
                    return Ok(Self::Server { backend, logs, url });
                }
                _ => {}
            }
        }
        // Does not repeat the value, which may contain a password.
        let forms = forms();
        let (last, others) = forms.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
        Err(format!("a log is {} or {last}", others.join(", ")))
    }
}

/// The forms of an address, for humans.
fn forms() -> Vec<String> {
    let of = |backend: &&'static Descriptor| match &backend.log_tools {
        None => Vec::new(),
        Some(LogTools::Folder(_)) => vec![format!("{}:DIR", backend.name)],
        Some(LogTools::Server(logs)) => logs.examples.iter().map(|form| (*form).to_owned()).collect(),
    };
    REGISTRY.iter().flat_map(of).collect()
}

impl LogAddress {
    /// The description of addresses in the help.
    #[must_use]
    pub fn help() -> String {
        let with_tls = REGISTRY.iter().filter_map(|backend| match &backend.log_tools {
            Some(LogTools::Server(logs)) => Some(logs.tls_schemes.iter().map(|scheme| format!("{scheme}://"))),
            _ => None,
        });
        let with_tls: Vec<String> = with_tls.flatten().collect();
        format!("A LOG is one of: {}. For TLS: {}.", forms().join(", "), with_tls.join(", "))
    }

    /// Its backend.
    #[must_use]
    pub const fn backend(&self) -> &'static Descriptor {
        match self {
            Self::Folder { backend, .. } | Self::Server { backend, .. } => backend,
        }
    }
}

impl PartialEq for LogAddress {
    fn eq(&self, other: &Self) -> bool {
        let is_same_place = match (self, other) {
            (Self::Folder { dir, .. }, Self::Folder { dir: other, .. }) => dir == other,
            (Self::Server { url, .. }, Self::Server { url: other, .. }) => url == other,
            _ => false,
        };
        self.backend() == other.backend() && is_same_place
    }
}

impl Eq for LogAddress {}

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { backend, dir, .. } => write!(f, "{}:{}", backend.name, dir.display()),
            Self::Server { backend, url, .. } => {
                let url = url.to_string();
                if url.contains("://") { f.write_str(&url) } else { write!(f, "{}:{url}", backend.name) }
            }
        }
    }
}

impl fmt::Debug for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogAddress({self})")
    }
}

/// The settings that name files for access to the servers of logs, with their backends.
pub fn file_settings() -> impl Iterator<Item = (&'static Descriptor, &'static str)> {
    let has_server = |backend: &&&'static Descriptor| matches!(backend.log_tools, Some(LogTools::Server(_)));
    REGISTRY.iter().filter(has_server).flat_map(|&backend| {
        let files = backend.settings.iter().filter(|setting| matches!(setting.kind, Kind::File));
        files.map(move |setting| (backend, setting.key))
    })
}

/// The settings of files with secrets.
pub fn secret_settings() -> impl Iterator<Item = &'static str> {
    REGISTRY
        .iter()
        .flat_map(|backend| match &backend.log_tools {
            Some(LogTools::Server(logs)) => logs.secrets,
            _ => &[],
        })
        .copied()
}

/// A log with the prefix of its keys, or of its streams and subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRef {
    /// Its address.
    pub address: LogAddress,
    /// As in `--redis-prefix` or `--nats-prefix`; unused for a folder.
    pub prefix: String,
    /// The files for access to the server, by the keys of their settings.
    pub files: Files,
}

impl LogRef {
    /// Validates the prefix for the backend.
    ///
    /// # Errors
    /// A description of the error.
    pub fn new(address: LogAddress, prefix: Option<&str>) -> Result<Self, String> {
        let text = prefix.unwrap_or("ordersystem");
        let prefix = match (&address, prefix) {
            (LogAddress::Folder { .. }, Some(_)) => return Err(format!("{address} takes no prefix")),
            (LogAddress::Folder { .. }, None) => text.to_owned(),
            (LogAddress::Server { logs, .. }, _) => (logs.prefix)(text)?,
        };
        Ok(Self { address, prefix, files: BTreeMap::new() })
    }

    /// Whether the file of the setting `key` applies to this log: a secret applies to an address without one.
    #[must_use]
    pub fn takes(&self, key: &str) -> bool {
        match &self.address {
            LogAddress::Folder { .. } => false,
            LogAddress::Server { logs, url, .. } => logs.secrets.contains(&key) && !url.has_password(),
        }
    }

    /// Adds the files that `named` returns for the settings of the log's backend and, unless the address has a secret, the secret in one of them.
    ///
    /// # Errors
    /// The setting whose file is unusable, and the reason.
    pub fn with_files(self, named: impl Fn(&'static str) -> Option<PathBuf>) -> Result<Self, Unusable> {
        let LogAddress::Server { backend, logs, url } = self.address else { return Ok(self) };
        let own = file_settings().filter(|(of, _)| *of == backend);
        let files: Files = own.filter_map(|(_, key)| Some((key, named(key)?))).collect();
        let url = if url.has_password() { url } else { (logs.unlock)(&url, &files)? };
        Ok(Self { address: LogAddress::Server { backend, logs, url }, files, ..self })
    }
}

/// Whether the files that `named` returns fit each other, for every backend.
///
/// # Errors
/// The setting whose file is unusable, and the reason.
pub fn check_files(named: impl Fn(&'static str) -> Option<PathBuf>) -> Result<(), Unusable> {
    let files: Files = file_settings().filter_map(|(_, key)| Some((key, named(key)?))).collect();
    REGISTRY.iter().try_for_each(|backend| match &backend.log_tools {
        Some(LogTools::Server(logs)) => (logs.check_files)(&files),
        _ => Ok(()),
    })
}

impl fmt::Display for LogRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            LogAddress::Folder { .. } => self.address.fmt(f),
            LogAddress::Server { .. } => write!(f, "{} ({})", self.address, self.prefix),
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
    fn a_prefix_is_validated_by_its_backend() {
        let named = |address: &str, prefix| LogRef::new(address.parse().unwrap(), prefix);
        assert_eq!(named("redis:cache", None).unwrap().prefix, "ordersystem");
        assert_eq!(named("redis:cache", Some("a.b")).unwrap().prefix, "a.b");
        for (address, prefix) in [("nats:x", "a.b"), ("nats:x", ""), ("redis:x", "a b"), ("embedded:x", "a")] {
            assert!(named(address, Some(prefix)).is_err(), "{address} {prefix:?}");
        }
    }
}
