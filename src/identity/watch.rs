//! Reads the identity file and its key set again when they change, so that a key can be withdrawn without a restart.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::authenticator::{Authenticator, Texts};
use crate::telemetry::outage::{Line, Outage};

/// How often the files are checked.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

impl Authenticator {
    /// Uses changed files, until `stop`. If a file is broken or missing, the previous identities stay in use. This is logged at once and every half
    /// minute, and shown in health and metrics while it lasts.
    pub async fn keep_current(self, stop: CancellationToken) {
        let (mut seen, outage) = (None, Outage::new());
        while stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
            let path = self.path().to_owned();
            // The files may be on a slow volume.
            let Ok(read) = tokio::task::spawn_blocking(move || Texts::read(&path)).await else { continue };
            let found = read.as_ref().map(Texts::fingerprint).map_err(Clone::clone);
            // The first check: the files that were read at the start are in use, unless they have changed since.
            if seen.as_ref() == Some(&found) {
                if let Some(why) = self.trouble() {
                    tell(&outage, &why);
                }
                continue;
            }
            let outcome = read.and_then(|texts| self.replace(&texts));
            match &outcome {
                Ok(()) => {
                    outage.works();
                    if seen.is_some() {
                        tracing::info!(file = %self.path().display(), "the identity file was read again");
                    }
                }
                Err(why) => tell(&outage, why),
            }
            self.note(outcome.err());
            seen = Some(found);
        }
    }
}

fn tell(outage: &Outage, why: &str) {
    if let Some(Line { unsaid }) = outage.failed(why) {
        tracing::error!(unsaid, "the changed identity file is not used, the previous one stays in use: {why}");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::identity::api_keys::NewKey;

    fn write(path: &Path, key: &NewKey) {
        let hash = key.hash().to_hex();
        fs::write(path, format!("[[api_keys]]\nname = \"a\"\nroles = [\"reader\"]\nsha256 = \"{hash}\"\n")).unwrap();
    }

    async fn looked() {
        // Reading happens on another thread, in real time.
        for _ in 0..20 {
            tokio::time::sleep(POLL_INTERVAL).await;
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(2))).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_used_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identities.toml");
        let [first, second, third] = [(); 3].map(|()| NewKey::draw().unwrap());
        write(&path, &first);
        let authenticator = Authenticator::open(&path, false).unwrap();
        tokio::spawn(authenticator.clone().keep_current(CancellationToken::new()));
        looked().await;
        let is_known = |key: &NewKey| authenticator.of_token(key.as_str()).is_ok();
        assert!(is_known(&first) && !is_known(&second));
        write(&path, &second);
        looked().await;
        assert!(!is_known(&first) && is_known(&second), "a withdrawn key is refused");
        fs::write(&path, "[[api_keys]]\nname = ").unwrap();
        looked().await;
        assert!(is_known(&second), "the last good file stays in use");
        assert!(authenticator.trouble().unwrap().contains("line 2"), "{:?}", authenticator.trouble());
        fs::remove_file(&path).unwrap();
        looked().await;
        assert!(is_known(&second) && authenticator.trouble().is_some());
        // As at the start: nobody is asked for a certificate here.
        fs::write(&path, "[[certificates]]\nsubject = \"CN=a\"\nname = \"a\"\nroles = [\"reader\"]\n").unwrap();
        looked().await;
        assert!(is_known(&second), "the last good file stays in use");
        assert!(authenticator.trouble().unwrap().contains("--tls-client-ca"), "{:?}", authenticator.trouble());
        write(&path, &third);
        looked().await;
        assert!(is_known(&third) && !is_known(&second) && authenticator.trouble().is_none());
    }
}
