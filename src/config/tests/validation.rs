//! Values that are refused, and settings that exclude each other.

use std::path::Path;

use super::{APPSETTINGS, assert_has, given};

#[test]
fn values_of_the_wrong_form_name_the_setting_the_value_and_the_flag() {
    let cases = [
        ("port", "70000", "'70000' is not an integer from 0 to 65535"),
        ("port", "-1", "'-1' is not an integer"),
        ("port", "+1", "'+1' is not an integer"),
        ("port", "", "'' is not an integer"),
        ("port", "50 00", "'50 00'"),
        ("port", "5000.0", "'5000.0'"),
        ("port", "99999999999999999999999", "not an integer"),
        ("worker-id", "32", "from 0 to 31"),
        ("datacenter-id", "32", "from 0 to 31"),
        ("max-message-bytes", "1023", "from 1024"),
        ("max-in-flight", "0", "from 1"),
        ("transport", "rabbit", "'rabbit' is not one of inmemory, redis, nats"),
        ("persistence", "Redis", "'Redis' is not one of inmemory, embedded, redis, nats"),
        ("persistence", "", "'' is not one of"),
        ("log-format", "xml", "not one of text, json"),
        ("cluster", "yes", "'yes' is not true or false"),
        ("bind", "local_host", "'local_host' is neither an IP address nor a name that resolves to one"),
        ("bind", "127.0.0.256", "'127.0.0.256' is neither an IP address nor a name that resolves to one"),
        ("node-id", "", "is empty"),
        ("node-id", "a b", "'a b' is not 1 to 64"),
        ("node-id", "a\nb", "'a\\nb'"),
        ("data-dir", "", "is empty"),
        ("grpc-port", "", "not an integer"),
        ("allowed-hosts", "orders.example:443", "'orders.example:443' is neither a host"),
        ("allowed-hosts", "https://orders.example", "is neither a host"),
        ("operators", "nobody", "not one of local, anyone"),
        ("reflection", "true", "not one of auto, on, off"),
        ("log-level", "inof", "'inof' is not a level"),
        ("log-level", "info,hyper=wran", "hyper=wran"),
        ("log-level", "info,", "'' is not a level"),
        ("cors-allowed-origins", "shop.example", "'shop.example' is neither an origin"),
        ("cors-allowed-origins", "https://shop.example/", "is neither an origin"),
        ("cors-allowed-origins", "https://a.example,*", "alone"),
        ("redis", "", "is empty"),
    ];
    for (key, value, part) in cases {
        assert_has(&given().flag(key, value).error(), &[part, &format!("{key}: "), &format!("(set by --{key})")]);
    }
    let long = "x".repeat(65);
    assert_has(&given().flag("node-id", &long).error(), &["1 to 64"]);
}

#[test]
fn a_wrong_value_names_the_variable_or_the_file_that_set_it() {
    assert_has(&given().env("ORDERSYSTEM_PORT", "x").error(), &["port: 'x'", "(set by ORDERSYSTEM_PORT)"]);
    assert_has(&given().env("ORDERSYSTEM_CLUSTER", "1").error(), &["cluster: '1' is not true or false"]);
    let error = given().file("a.json", r#"{"DistributedId": {"WorkerId": 99}}"#).error();
    assert_has(&error, &["worker-id: '99'", "DistributedId.WorkerId in ", "a.json"]);
}

#[test]
fn log_levels_take_levels_and_directives() {
    for level in ["info", "OFF", "info,ordersystem=debug,hyper=off", "warn,[command{order=1}]=trace"] {
        assert_eq!(given().flag("log-level", level).load().unwrap().log.level, level);
    }
}

#[test]
fn the_embedded_store_needs_a_folder() {
    let error = given().flag("persistence", "embedded").error();
    assert_has(&error, &["persistence: 'embedded'", "--data-dir DIR", "(set by --persistence)"]);
    let config = given().flag("persistence", "embedded").env("ORDERSYSTEM_DATA_DIR", "/srv/x").load().unwrap();
    assert_eq!(config.node.data_dir.as_deref(), Some(Path::new("/srv/x")));
}

#[test]
fn a_cluster_without_shared_storage_is_refused_with_the_reason() {
    for store in ["inmemory", "embedded"] {
        let error = given().flag("cluster", "true").flag("persistence", store).error();
        assert_has(&error, &["cluster: ", "nodes cannot share", store, "(set by --cluster)"]);
    }
    for store in ["redis", "nats"] {
        assert!(given().flag("cluster", "true").flag("persistence", store).load().is_ok());
    }
    let error = given().env("ORDERSYSTEM_CLUSTER", "true").error();
    assert_has(&error, &["nodes cannot share", "(set by ORDERSYSTEM_CLUSTER)"]);
    assert!(given().env("ORDERSYSTEM_CLUSTER", "false").load().is_ok());
}

#[test]
fn a_broker_flag_that_nothing_uses_is_an_error_but_not_elsewhere() {
    assert_has(&given().flag("redis", "h:1").error(), &["--redis is set but nothing uses Redis"]);
    assert_has(&given().flag("redis-prefix", "a").error(), &["--redis-prefix is set but nothing uses Redis"]);
    assert_has(&given().flag("event-format", "json").error(), &["--event-format is set but nothing uses a broker"]);
    assert_has(&given().flag("persistence", "redis").flag("redis-prefix", "{a}").error(), &["redis-prefix", "'{a}'"]);
    assert_has(&given().flag("nats", "nats://h").error(), &["--nats is set but nothing uses NATS"]);
    assert_has(&given().flag("nats-prefix", "a").error(), &["--nats-prefix is set but nothing uses NATS"]);
    assert_has(&given().flag("nats-replicas", "3").error(), &["--nats-replicas is set but nothing uses NATS"]);
    let nats = || given().flag("persistence", "nats");
    assert_has(&nats().flag("nats-prefix", "a.b").error(), &["nats-prefix", "'a.b'"]);
    assert_has(&nats().flag("nats-replicas", "2").error(), &["nats-replicas", "'2'"]);
    let given_nats = nats().flag("nats-prefix", "a-b").flag("nats-replicas", "3");
    assert!(given_nats.load().is_ok());
    assert_eq!((given_nats.nats().prefix.as_str(), given_nats.nats().replicas), ("a-b", 3));
    assert!(given().env("ORDERSYSTEM_REDIS", "h:1").file("a.json", APPSETTINGS).load().is_ok());
}

#[test]
fn one_port_for_two_listeners_is_an_error_but_any_free_ones_are_not() {
    assert_has(&given().flag("grpc-port", "5000").error(), &["grpc-port: 5000 is also the port", "--grpc-port"]);
    assert_has(&given().flag("admin-port", "5000").error(), &["admin-port: 5000 is also a public port"]);
    let config = given().flag("grpc-port", "0").flag("port", "0").load().unwrap();
    assert_eq!(config.server.grpc_port, Some(0));
}
