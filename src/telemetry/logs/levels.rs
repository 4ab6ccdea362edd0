//! The current filter of the log: the configured one, or one that an operator has set, for a limited time or until the next change. An operator cannot
//! silence the audit: only the configured filter may.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tracing_subscriber::{Registry, reload};

use super::{audited::Audited, directives};

/// The filter of the log, which can be changed while the program runs. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct LogLevels(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    filter: reload::Handle<Audited, Registry>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    configured: String,
    set: Option<Set>,
    /// Distinguishes the end of one setting from that of a later one.
    changes: u64,
}

impl State {
    fn filter(&self) -> &str {
        self.set.as_ref().map_or(&self.configured, |set| &set.filter)
    }

    /// Whether the configured filter lets the audit pass, so that no other one may silence it.
    fn keeps_audit(&self) -> Result<bool, InvalidFilter> {
        directives::filter(&self.configured).map(directives::has_audit).map_err(InvalidFilter)
    }

    fn audited(&self) -> Result<Audited, InvalidFilter> {
        let filter = directives::filter(self.filter()).map_err(InvalidFilter)?;
        Ok(Audited { filter, keeps_audit: self.keeps_audit()? })
    }
}

const KEPT: &str =
    "the audit of a running node cannot be silenced: name the target audit in the configured filter (--log-level)";

/// A filter that an operator has set.
#[derive(Clone, Debug)]
struct Set {
    filter: String,
    reverts_at: Option<SystemTime>,
}

/// The filters of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InEffect {
    /// The filter in effect.
    pub filter: String,
    /// The configured filter.
    pub configured: String,
    /// When the configured filter applies again; `None`: it does, or the other one has no end.
    pub reverts_at: Option<SystemTime>,
}

/// A filter that cannot be used, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFilter(String);

impl LogLevels {
    /// The configured filter, as a layer of a subscriber, and the handle that changes it.
    ///
    /// # Errors
    /// [`InvalidFilter`].
    pub(super) fn new(configured: &str) -> Result<(reload::Layer<Audited, Registry>, Self), InvalidFilter> {
        let state = State { configured: configured.to_owned(), set: None, changes: 0 };
        let (layer, filter) = reload::Layer::new(state.audited()?);
        Ok((layer, Self(Arc::new(Shared { filter, state: Mutex::new(state) }))))
    }

    /// The current filters.
    #[must_use]
    pub fn in_effect(&self) -> InEffect {
        let state = self.0.state.lock();
        InEffect {
            filter: state.filter().to_owned(),
            configured: state.configured.clone(),
            reverts_at: state.set.as_ref().and_then(|set| set.reverts_at),
        }
    }

    /// Uses `filter` instead of the configured one: for `duration` if it is given, which needs a runtime; else until it is changed again. The audit is
    /// kept if the configured filter has it.
    ///
    /// # Errors
    /// [`InvalidFilter`], also for one that silences an audit that is kept; the current filter stays.
    pub fn set(&self, filter: &str, duration: Option<Duration>) -> Result<(), InvalidFilter> {
        if directives::silences_audit(filter) && self.0.state.lock().keeps_audit()? {
            return Err(InvalidFilter(KEPT.to_owned()));
        }
        let reverts_at = duration.map(|duration| SystemTime::now() + duration);
        let change = self.change(|state| state.set = Some(Set { filter: filter.to_owned(), reverts_at }))?;
        self.warn_of_unknown_targets();
        if let Some(duration) = duration {
            let levels = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(duration).await;
                levels.end(change);
            });
        }
        Ok(())
    }

    /// Uses the configured filter.
    ///
    /// # Errors
    /// [`InvalidFilter`], if logging has ended.
    pub fn restore(&self) -> Result<(), InvalidFilter> {
        self.change(|state| state.set = None).map(drop)
    }

    /// Uses `filter`, which becomes the configured one.
    ///
    /// # Errors
    /// [`InvalidFilter`]; the current filter stays.
    pub fn configure(&self, filter: &str) -> Result<(), InvalidFilter> {
        let configure = |state: &mut State| {
            state.set = None;
            filter.clone_into(&mut state.configured);
        };
        self.change(configure)?;
        self.warn_of_unknown_targets();
        Ok(())
    }

    /// Logs the targets of a new filter that nothing in the service has: a misspelt one would otherwise just be silent.
    pub(super) fn warn_of_unknown_targets(&self) {
        let unknown = directives::unknown_targets(&self.in_effect().filter);
        if !unknown.is_empty() {
            tracing::warn!(targets = unknown.join(", "), "the log filter names targets that the service does not have");
        }
    }

    /// Ends the setting made by the change with this number, unless there was a later one.
    fn end(&self, change: u64) {
        let restored = self.change(|state| {
            if state.changes == change {
                state.set = None;
            }
        });
        if restored.is_ok_and(|last| last == change + 1) {
            tracing::info!(filter = self.in_effect().filter, "the configured log filter is in effect again");
        }
    }

    /// Changes the state by `edit` and uses its filter; returns the number of the change.
    fn change(&self, edit: impl FnOnce(&mut State)) -> Result<u64, InvalidFilter> {
        let mut state = self.0.state.lock();
        let mut next = state.clone();
        edit(&mut next);
        next.changes += 1;
        self.0.filter.reload(next.audited()?).map_err(|error| InvalidFilter(error.to_string()))?;
        *state = next;
        Ok(state.changes)
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, event_enabled, subscriber::set_default};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn in_effect(levels: &LogLevels) -> (String, String, bool) {
        let InEffect { filter, configured, reverts_at } = levels.in_effect();
        (filter, configured, reverts_at.is_some())
    }

    fn is_debugged() -> bool {
        enabled!(target: "ordersystem::tried", Level::DEBUG)
    }

    /// Whether lines pass: of the audit, and of the rest.
    fn pass() -> (bool, bool) {
        // With a field, by which directives can select lines.
        let audit = event_enabled!(target: directives::AUDIT, Level::INFO, who);
        (audit, event_enabled!(target: "ordersystem::tried", Level::ERROR))
    }

    #[test]
    fn no_filter_that_is_set_while_the_node_runs_silences_the_audit() {
        let (layer, levels) = LogLevels::new("info").unwrap();
        let _guard = set_default(Registry::default().with(layer));
        for filter in ["off", "off,aud=off", "off,[{who}]=off", "off,h2=error"] {
            levels.set(filter, None).unwrap();
            assert_eq!(pass(), (true, false), "{filter}");
        }
        for filter in ["info,audit=off", "audit=warn,debug", "info,audit[{who}]=off"] {
            let error = levels.set(filter, None).unwrap_err().to_string();
            assert!(error.contains("the audit of a running node cannot be silenced"), "{error}");
        }
        assert_eq!(levels.in_effect().filter, "off,h2=error");
        levels.configure("info,audit=off").unwrap();
        assert_eq!(pass(), (false, true), "the configured filter may");
        levels.set("error,audit=off", None).unwrap();
        assert_eq!(pass(), (false, true));
        levels.set("error,audit=info", None).unwrap();
        assert_eq!(pass(), (true, true), "more is always possible");
    }

    #[tokio::test(start_paused = true)]
    async fn a_temporary_filter_is_followed_by_the_configured_one() {
        let (layer, levels) = LogLevels::new("info").unwrap();
        let _guard = set_default(Registry::default().with(layer));
        assert!(!is_debugged());
        levels.set("ordersystem::tried=debug,info", Some(Duration::from_secs(60))).unwrap();
        assert!(is_debugged());
        assert_eq!(in_effect(&levels), ("ordersystem::tried=debug,info".into(), "info".into(), true));
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(is_debugged());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!is_debugged());
        assert_eq!(in_effect(&levels), ("info".into(), "info".into(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_temporary_filter_does_not_undo_a_later_one() {
        let (layer, levels) = LogLevels::new("info").unwrap();
        let _guard = set_default(Registry::default().with(layer));
        levels.set("warn", Some(Duration::from_secs(60))).unwrap();
        levels.set("debug", None).unwrap();
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(is_debugged());
        levels.set("trace", Some(Duration::from_secs(60))).unwrap();
        levels.configure("error").unwrap();
        assert_eq!(in_effect(&levels), ("error".into(), "error".into(), false));
        assert!(!is_debugged());
        levels.set("debug", None).unwrap();
        levels.restore().unwrap();
        assert_eq!(in_effect(&levels), ("error".into(), "error".into(), false));
    }

    #[test]
    fn a_wrong_filter_changes_nothing() {
        let (layer, levels) = LogLevels::new("info").unwrap();
        let _guard = set_default(Registry::default().with(layer));
        let error = levels.set("info,hyper=wran", None).unwrap_err();
        assert!(error.to_string().contains("hyper=wran"), "{error}");
        assert!(levels.configure("loud").is_err());
        assert_eq!(in_effect(&levels), ("info".into(), "info".into(), false));
    }
}
