//! Turns credentials into verified callers.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use metrics::Gauge;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    api_keys::{self, ApiKeys},
    bounds::LimitEntries,
    certificates::{Certificates, PeerCertificate},
    file::{IdentityFile, read_guarded},
    hash::Hash,
    jwt::{Tokens, key_set_path},
    limits::Callers,
    principal::Principal,
    rejection::Rejection,
    verified::{Accepted, Verified},
};

/// Verifies callers by the identity file. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Whether clients are asked for a certificate, without which no entry for one can match.
    asks_for_certificates: bool,
    current: RwLock<Arc<Identities>>,
    /// How often the identities have been replaced.
    version: AtomicU64,
    /// Notifies open calls of that.
    changes: watch::Sender<()>,
    callers: Arc<Callers>,
    /// The defect of the current files, if they have one; the identities read before stay in use.
    trouble: RwLock<Option<String>>,
    is_current: Gauge,
}

/// The callers of an identity file as read once.
#[derive(Debug)]
struct Identities {
    keys: ApiKeys,
    tokens: Option<Tokens>,
    certificates: Certificates,
    limits: LimitEntries,
}

/// The texts of the identity file and of its key set, as read once.
#[derive(Debug)]
pub struct Texts {
    file: String,
    key_set: Option<String>,
}

impl Texts {
    /// Reads both files.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = read_guarded(path)?;
        let parsed = IdentityFile::parse(&file).map_err(|why| said(path, &why))?;
        let key_set = parsed.jwt.as_ref().map(|entry| read_guarded(&key_set_path(path, entry))).transpose()?;
        Ok(Self { file, key_set })
    }

    /// A value that changes with either file.
    #[must_use]
    pub fn fingerprint(&self) -> [Hash; 2] {
        [Hash::of(&self.file), Hash::of(self.key_set.as_deref().unwrap_or_default())]
    }
}

impl Authenticator {
    /// Reads the identity file at `path`, which may have entries for certificates only if the node `asks_for_certificates`; its metric uses the
    /// current recorder.
    ///
    /// # Errors
    /// One line that names the file, and the line or entry in it.
    pub fn open(path: &Path, asks_for_certificates: bool) -> Result<Self, String> {
        let callers = Arc::new(Callers::default());
        let identities = Identities::of(path, &Texts::read(path)?, asks_for_certificates, &callers)?;
        let is_current = metrics::gauge!("ordersystem_identities_current");
        is_current.set(1.0);
        let (current, trouble) = (RwLock::new(Arc::new(identities)), RwLock::new(None));
        let (path, version, changes) = (path.to_owned(), AtomicU64::new(0), watch::Sender::new(()));
        let shared = Shared { path, asks_for_certificates, current, version, changes, callers, trouble, is_current };
        Ok(Self(Arc::new(shared)))
    }

    /// The path of the identity file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The caller with this API key or token.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn of_token(&self, token: &str) -> Result<Accepted, Rejection> {
        let identities = self.identities();
        match &identities.tokens {
            _ if token.starts_with(api_keys::PREFIX) => identities.keys.caller(token, SystemTime::now()),
            Some(tokens) => tokens.caller(token, |principal| verified(principal, &identities.limits, &self.0.callers)),
            None => Err(Rejection::Invalid("this is not an API key, and no other tokens are accepted here")),
        }
    }

    /// The caller with this client certificate; `None` if no entry matches it.
    ///
    /// # Errors
    /// If it has expired.
    pub fn of_certificate(&self, certificate: &PeerCertificate) -> Result<Option<Accepted>, Rejection> {
        self.identities().certificates.caller(certificate, SystemTime::now())
    }

    /// The version of the identities in use: in another version the same credentials may belong to another caller, or to none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Changes each time that the identities are replaced.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    /// The defect of the current files, if they have one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.read().clone()
    }

    /// Uses these files.
    ///
    /// # Errors
    /// One line that names the file; the previous identities stay in use.
    pub fn replace(&self, texts: &Texts) -> Result<(), String> {
        let identities = Identities::of(self.path(), texts, self.0.asks_for_certificates, &self.0.callers)?;
        *self.0.current.write() = Arc::new(identities);
        // Incremented afterwards: callers verified before this belong to the previous version.
        self.0.version.fetch_add(1, Ordering::Release);
        self.0.changes.send_replace(());
        Ok(())
    }

    /// Records whether the current files are in use.
    pub fn note(&self, trouble: Option<String>) {
        self.0.is_current.set(if trouble.is_none() { 1.0 } else { 0.0 });
        *self.0.trouble.write() = trouble;
    }

    fn identities(&self) -> Arc<Identities> {
        Arc::clone(&self.0.current.read())
    }
}

impl Identities {
    fn of(path: &Path, texts: &Texts, asks_for_certificates: bool, callers: &Callers) -> Result<Self, String> {
        let IdentityFile { api_keys, jwt, certificates, limits } =
            IdentityFile::parse(&texts.file).map_err(|why| said(path, &why))?;
        if !certificates.is_empty() && !asks_for_certificates {
            return Err(said(path, "[[certificates]] needs --tls-client-ca, which has clients present one"));
        }
        let mut keys = ApiKeys::default();
        for key in api_keys {
            keys.add(key.sha256, Arc::new(verified(key.principal, &limits, callers)), key.expires);
        }
        let tokens = match jwt {
            None => None,
            Some(entry) => {
                let key_set_path = key_set_path(path, &entry);
                let key_set = texts.key_set.as_deref().unwrap_or_default();
                Some(Tokens::new(entry, key_set).map_err(|why| said(&key_set_path, &why))?)
            }
        };
        let mut known = Certificates::default();
        for entry in certificates {
            known.add(entry.matched, Arc::new(verified(entry.principal, &limits, callers)));
        }
        Ok(Self { keys, tokens, certificates: known, limits })
    }
}

fn verified(principal: Principal, limits: &LimitEntries, callers: &Callers) -> Verified {
    let limits = callers.limits_of(&principal, limits);
    Verified { principal: Arc::new(principal), limits }
}

fn said(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}
