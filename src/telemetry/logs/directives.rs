//! Filters of the log: a level, or directives as in `info,ordersystem::processors=debug`.

use tracing::{Level, event_enabled, subscriber::with_default};
use tracing_subscriber::{EnvFilter, Registry, filter::LevelFilter, layer::SubscriberExt as _};

use crate::settings::parse::quoted;

/// The target of the events that the built-in handler has received, one line each.
pub const ORDER_EVENTS: &str = "order_events";

/// The target of the access log, one line for each call.
pub const ACCESS: &str = "access";

/// The target of the audit: refused calls, and actions of operators.
pub const AUDIT: &str = "audit";

/// The root of the modules of the service, which are its other targets.
const SERVICE: &str = "ordersystem";

/// The defaults of the targets that a filter does not name. Without the level for all others, [`EnvFilter`] would switch them off. Events and calls are
/// logged only if they are named. Libraries log errors only, and the client of NATS logs nothing: its lines name neither address nor cause, and the backend logs its own. HTTP and TLS lines below ERROR concern client
/// behaviour, which clients may repeat without limit.
const DEFAULTS: &str = "info,order_events=off,access=off,async_nats=off,h2=error,hyper=error,hyper_util=error,tonic=error,\
                            tonic_web=error,tower=error";

/// Checks a filter. A lone word must be a level: [`EnvFilter`] would treat a misspelt level as a target, and silently log something else.
///
/// # Errors
/// The directive that is wrong, and why.
pub fn check(text: &str) -> Result<(), String> {
    for directive in text.split(',').map(str::trim) {
        let has_form = directive.contains(['=', '[', ']']);
        // LevelFilter parses an empty text as "error".
        if directive.is_empty() || !has_form && directive.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{} is not a level (off, error, warn, info, debug, trace) nor target=level",
                quoted(directive)
            ));
        }
    }
    EnvFilter::try_new(text).map(drop).map_err(|error| format!("{}: {error}", quoted(text)))
}

/// The filter described by `text`, on top of the defaults: of two directives for one target the later one wins.
pub(super) fn filter(text: &str) -> Result<EnvFilter, String> {
    check(text)?;
    EnvFilter::try_new(format!("{DEFAULTS},{text}")).map_err(|error| format!("{}: {error}", quoted(text)))
}

/// Whether `filter` lets lines of the audit pass.
pub(super) fn has_audit(filter: EnvFilter) -> bool {
    let subscriber = Registry::default().with(filter);
    with_default(subscriber, || event_enabled!(target: AUDIT, Level::INFO))
}

/// Whether a directive of `text` is for the audit, and silences it.
pub(super) fn silences_audit(text: &str) -> bool {
    text.split(',').any(|directive| {
        let target = directive.split(['=', '[']).next().unwrap_or_default().trim();
        let level = directive.rsplit_once('=').and_then(|(_, level)| level.trim().parse::<LevelFilter>().ok());
        target == AUDIT && level.is_some_and(|level| level < LevelFilter::INFO)
    })
}

/// The targets in `text` that neither the service nor its libraries have, such as misspelt ones. They are no errors: a handler of another crate may log
/// under its own target.
#[must_use]
pub fn unknown_targets(text: &str) -> Vec<String> {
    let named = text.split(',').filter_map(|directive| directive.split(['=', '[']).next().map(str::trim));
    let is_level = |target: &str| target.parse::<LevelFilter>().is_ok();
    named.filter(|target| !target.is_empty() && !is_level(target) && !is_known(target)).map(str::to_owned).collect()
}

fn is_known(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    [SERVICE, AUDIT].contains(&root) || DEFAULTS.split(',').any(|default| default.split('=').next() == Some(root))
}

#[cfg(test)]
mod tests {
    use tracing::enabled;

    use super::*;

    /// The test lines that pass the filter `text`.
    fn passing(text: &str) -> Vec<&'static str> {
        let filter = filter(text).unwrap();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::sink).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let tried = [
            ("ordersystem debug", enabled!(target: "ordersystem::node", Level::DEBUG)),
            ("ordersystem warn", enabled!(target: "ordersystem::node", Level::WARN)),
            ("audit info", enabled!(target: AUDIT, Level::INFO)),
            ("order_events info", enabled!(target: ORDER_EVENTS, Level::INFO)),
            ("access warn", enabled!(target: ACCESS, Level::WARN)),
            ("h2 warn", enabled!(target: "h2::codec", Level::WARN)),
            ("h2 error", enabled!(target: "h2::codec", Level::ERROR)),
            ("async_nats error", enabled!(target: "async_nats", Level::ERROR)),
        ];
        tried.into_iter().filter_map(|(line, passes)| passes.then_some(line)).collect()
    }

    #[test]
    fn a_level_applies_to_the_service_and_the_rest_is_quiet_unless_named() {
        assert_eq!(passing("debug"), ["ordersystem debug", "ordersystem warn", "audit info", "h2 error"]);
        assert_eq!(passing("info"), ["ordersystem warn", "audit info", "h2 error"]);
        assert_eq!(passing("h2=warn,warn"), ["ordersystem warn", "h2 warn", "h2 error"]);
        assert_eq!(passing("off,order_events=info"), ["order_events info", "h2 error"]);
        assert_eq!(passing("off,access=warn"), ["access warn", "h2 error"]);
        assert_eq!(passing("error,async_nats=debug,h2=off"), ["async_nats error"]);
    }

    #[test]
    fn a_filter_that_silences_the_audit_is_recognised() {
        for (text, passes) in [("info", true), ("off,audit=info", true), ("warn", false), ("info,audit=off", false)] {
            assert_eq!(has_audit(filter(text).unwrap()), passes, "{text}");
        }
        for text in ["audit=off", "info, audit = warn", "info,audit[{who}]=error,h2=warn"] {
            assert!(silences_audit(text), "{text}");
        }
        for text in ["off", "audit=info", "info,audit=debug", "auditor=off", "info,h2=off", "[{audit}]=off"] {
            assert!(!silences_audit(text), "{text}");
        }
    }

    #[test]
    fn without_a_level_for_the_service_it_logs_as_by_default() {
        assert_eq!(passing("access=info"), ["ordersystem warn", "audit info", "access warn", "h2 error"]);
        assert_eq!(passing("acess=info"), ["ordersystem warn", "audit info", "h2 error"]);
        assert_eq!(
            passing("ordersystem::node=debug"),
            ["ordersystem debug", "ordersystem warn", "audit info", "h2 error"]
        );
    }

    #[test]
    fn a_target_that_nothing_has_is_named() {
        let known = "warn,ordersystem=info,ordersystem::node[span]=debug,audit=off,access=info,order_events=info,h2=warn,[x]=info";
        assert!(unknown_targets(known).is_empty());
        assert_eq!(unknown_targets("acess=info, ordersystm::node=debug,info"), ["acess", "ordersystm::node"]);
    }

    #[test]
    fn every_library_that_logs_is_quiet() {
        let lock: toml::Table = toml::from_str(include_str!("../../../Cargo.lock")).unwrap();
        let uses_tracing = |package: &toml::Value| {
            let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
            dependencies.is_some_and(|all| all.iter().any(|one| one.as_str() == Some("tracing")))
        };
        let packages = lock["package"].as_array().unwrap();
        let names = packages.iter().filter(|package| uses_tracing(package)).map(|package| &package["name"]);
        let mut seen = 0;
        for name in names.filter_map(toml::Value::as_str) {
            // The service itself, the libraries that write the log, and those that only tests use.
            if ["ordersystem", "tracing-subscriber", "loom"].contains(&name) {
                continue;
            }
            let target = name.replace('-', "_");
            let is_named = DEFAULTS.split(',').any(|directive| directive.split('=').next() == Some(&target));
            assert!(is_named, "{target} logs, and nothing keeps it quiet");
            seen += 1;
        }
        assert!(seen > 5, "{seen} libraries");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        for (text, part) in [
            ("inof", "'inof' is not a level"),
            ("info,", "'' is not a level"),
            ("", "'' is not a level"),
            ("info,hyper=wran", "hyper=wran"),
            ("info,a\nb", r"'a\nb' is not a level"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
