//! The messages of the program about a Redis that is unavailable, is something else, or is reached in another way.

use std::{process::Stdio, time::Duration};

use crate::{
    redis_server::{DURABLE, RedisServer, free_port},
    support::{Process, program, run, until},
    tls::Authority,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::{Instant, sleep},
};

#[tokio::test]
async fn an_address_of_another_client_is_refused_with_the_setting_and_the_accepted_forms() {
    for (address, expected) in [
        ("localhost:6379,abortConnect=false", "abortConnect=false"),
        ("redis+sentinel://one:26379,two:26379", "service"),
        ("redis://localhost:6379/first", "database"),
    ] {
        let outcome = run(&["--persistence", "redis", "--redis", address]).await;
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("--redis") && outcome.stderr.contains(expected), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
    let outcome = run(&["--persistence", "redis", "--redis", "foo:bar:baz"]).await;
    assert!(outcome.stderr.contains("'foo:bar:baz'"), "{outcome:?}");
    let outcome = run(&["--persistence", "redis", "--redis", "redis://:s3cret"]).await;
    assert!(outcome.code == Some(2) && !outcome.stderr.contains("s3cret"), "{outcome:?}");
    let outcome = run(&["--persistence", "redis", "--redis", "localhost:6379,abortConnect=false"]).await;
    for form in ["host:port", "redis[s]://[user:password@]host:port[/db]", "redis[s]+sentinel://"] {
        assert!(outcome.stderr.contains(form), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_password_refused_by_redis_is_explained() {
    let server = RedisServer::start(&[DURABLE, &["--requirepass", "s3cret"]].concat());
    for login in ["", ":wrong@"] {
        let address = format!("redis://{login}127.0.0.1:{}", server.port);
        let outcome = run(&["--port", "0", "--persistence", "redis", "--redis", &address]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("it rejects the user name or the password"), "{outcome:?}");
        assert!(outcome.stderr.contains("redis://user:password@host:port"), "{outcome:?}");
        assert!(outcome.stderr.contains("--redis-password-file"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_redis_is_named_as_such() {
    let node = Process::start(&[]).await;
    let port = free_port().to_string();
    let mut nats = Command::new("nats-server");
    let _nats = nats
        .args(["-a", "127.0.0.1", "-p", &port])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server is installed");
    let address = format!("127.0.0.1:{port}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        assert!(Instant::now() < deadline, "nats-server does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    for address in [address, node.address.to_string()] {
        let outcome = run(&["--port", "0", "--persistence", "redis", "--redis", &address]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let expected = format!("Redis at {address} cannot be used: the server there is not Redis");
        assert!(outcome.stderr.contains(&expected), "{outcome:?}");
    }
}

/// It ends by itself, and says all of this.
async fn is_refused(args: &[&str], words: &[&str]) {
    let outcome = run(&[&["--port", "0"], args].concat()).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in {outcome:?}");
    }
}

#[tokio::test]
async fn a_database_that_redis_does_not_have_fails_the_start() {
    let server = RedisServer::start(DURABLE);
    let address = format!("redis://127.0.0.1:{}/99", server.port);
    let at = format!("Redis at 127.0.0.1:{} cannot be used: it has no database 99", server.port);
    is_refused(&["--persistence", "redis", "--redis", &address], &[&at]).await;
    is_refused(&["--transport", "redis", "--redis", &address], &[&at]).await;
    let verified = run(&["verify", &address]).await;
    assert!(verified.code == Some(1) && verified.stderr.contains("it has no database 99"), "{verified:?}");

    let sentinel = RedisServer::start_sentinel(&format!("sentinel monitor orders 127.0.0.1 {} 1", server.port));
    let address = format!("redis+sentinel://127.0.0.1:{}/orders/99", sentinel.port);
    let at = format!("Redis at 127.0.0.1:{}", server.port);
    is_refused(&["--persistence", "redis", "--redis", &address], &[&at, "it has no database 99"]).await;
}

#[tokio::test]
async fn a_missing_password_with_sentinels_fails_the_start() {
    let server = RedisServer::start(&[DURABLE, &["--requirepass", "s3cret"]].concat());
    let monitor = format!("sentinel monitor orders 127.0.0.1 {} 1\nsentinel auth-pass orders s3cret", server.port);
    let sentinel = RedisServer::start_sentinel(&monitor);
    let address =
        |login: &str, sentinel: &RedisServer| format!("redis+sentinel://{login}127.0.0.1:{}/orders", sentinel.port);
    let at = format!("Redis at 127.0.0.1:{}", server.port);
    for login in ["", ":wrong@"] {
        let address = address(login, &sentinel);
        let words = [&*at, "it rejects the user name or the password, or requires them"];
        is_refused(&["--persistence", "redis", "--redis", &address], &words).await;
    }
    let locked = RedisServer::start_sentinel(&format!("{monitor}\nrequirepass another"));
    let at = format!("the Sentinel at 127.0.0.1:{} requires a password", locked.port);
    let words = [&*at, "--redis-password-file"];
    is_refused(&["--persistence", "redis", "--redis", &address(":s3cret@", &locked)], &words).await;
    is_refused(&["--persistence", "redis", "--redis", &address("", &locked)], &words).await;
}

#[tokio::test]
async fn a_server_that_is_not_nats_is_named_as_such() {
    let (node, redis) = (Process::start(&[]).await, RedisServer::start(DURABLE));
    let locked = RedisServer::start(&[DURABLE, &["--requirepass", "s3cret"]].concat());
    for (address, who) in [
        (format!("127.0.0.1:{}", redis.port), "it speaks like a Redis"),
        (format!("127.0.0.1:{}", locked.port), "it speaks like a Redis"),
        (node.address.to_string(), "it speaks HTTP"),
    ] {
        let says = format!("{address}: the server there is not NATS: {who}");
        is_refused(&["--transport", "nats", "--nats", &address], &[&says]).await;
        is_refused(&["--persistence", "nats", "--nats", &address], &[&says]).await;
        let verified = run(&["verify", &format!("nats:{address}")]).await;
        assert!(verified.code == Some(1) && verified.stderr.contains(&says), "{verified:?}");
    }
    // As Sentinels. The second question comes so soon that the answer to the first one stands for it, or not.
    let other = format!("redis+sentinel://{}/orders", node.address);
    for _ in 0..5 {
        is_refused(&["--persistence", "redis", "--redis", &other], &["the server there is not Redis"]).await;
    }
}

/// The output of a node within some seconds.
async fn said(args: &[&str], within: Duration) -> Vec<String> {
    let mut child = program().args(["--port", "0"]).args(args).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let end = sleep(within);
    tokio::pin!(end);
    loop {
        tokio::select! {
            line = lines.next_line() => match line.unwrap() {
                Some(line) => said.push(line),
                None => return said,
            },
            () = &mut end => return said,
        }
    }
}

#[tokio::test]
async fn an_absent_redis_is_logged_once_with_its_address() {
    let address = format!("127.0.0.1:{}", free_port());
    let lines =
        said(&["--persistence", "redis", "--transport", "redis", "--redis", &address], Duration::from_secs(6)).await;
    let expected = format!("Redis at {address} cannot be used: connection refused");
    let said: Vec<_> = lines.iter().filter(|line| line.contains("WARN") && line.contains(&expected)).collect();
    // Other lines may report that they wait for it.
    let of_the_connection = said.iter().filter(|line| line.contains("redis::keeper")).count();
    assert_eq!(of_the_connection, 1, "{lines:#?}");
    let without = lines.iter().find(|line| line.contains("Redis") && !line.contains(&address));
    assert_eq!(without, None, "a line about Redis without its address");
}

#[tokio::test]
async fn health_says_that_no_fail_over_can_happen_while_too_few_sentinels_are_reachable() {
    let server = RedisServer::start(DURABLE);
    let monitor = format!("sentinel monitor orders 127.0.0.1 {} 1", server.port);
    let mut sentinel = RedisServer::start_sentinel(&monitor);
    let address = format!("redis+sentinel://127.0.0.1:{}/orders", sentinel.port);
    let mut node = Process::serve(&["--persistence", "redis", "--transport", "redis", "--redis", &address]).await;
    node.places_an_order().await;
    for name in ["store", "transport"] {
        assert_eq!(node.health(name).await.0, "Healthy");
    }
    sentinel.kill();
    for name in ["store", "transport"] {
        until("it is degraded", async || node.health(name).await.0 == "Degraded").await;
        let (_, detail) = node.health(name).await;
        let expected = format!(
            "no fail-over can happen: 0 of 1 Sentinels reachable (the Sentinel at 127.0.0.1:{}: connection refused",
            sentinel.port
        );
        assert!(detail.contains(&expected), "{detail}");
    }
    assert!(node.get("/health").await.contains("{\"status\":\"Degraded\""));
    assert!(node.is_ready().await, "the primary answers");
    node.places_an_order().await;
    sentinel.start_again();
    for name in ["store", "transport"] {
        until("it is healthy", async || node.health(name).await.0 == "Healthy").await;
    }
    node.log.line_with("Redis has enough Sentinels again").await;
    let said = node.said();
    let warnings: Vec<_> = said.iter().filter(|line| line.contains("Redis has too few Sentinels")).collect();
    assert_eq!(warnings.len(), 1, "{said:#?}");
}

/// The settings of a Redis or a Sentinel, with dashes on its command line.
fn tls_settings(authority: &Authority, port: &str) -> Vec<String> {
    let (cert, key, ca) = (authority.path("server.pem"), authority.path("server.key"), authority.path("ca.pem"));
    [("tls-port", port), ("tls-cert-file", &cert), ("tls-key-file", &key), ("tls-ca-cert-file", &ca)]
        .into_iter()
        .chain([("tls-auth-clients", "no"), ("tls-replication", "yes")])
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}

#[tokio::test]
async fn a_redis_and_sentinels_with_tls_of_a_private_authority_are_trusted_by_redis_ca() {
    let authority = Authority::with_files();
    authority.sign("server", &["localhost", "127.0.0.1"]);
    let [tls_port, sentinel_port] = [free_port(), free_port()].map(|port| port.to_string());
    let settings = tls_settings(&authority, &tls_port).iter().map(|line| format!("--{line}")).collect::<Vec<_>>();
    let settings: Vec<_> = settings.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    let settings: Vec<&str> = DURABLE.iter().copied().chain(settings.iter().map(String::as_str)).collect();
    let server = RedisServer::start(&settings);
    let monitor = format!("sentinel monitor orders 127.0.0.1 {tls_port} 1\n");
    let _sentinel = RedisServer::start_sentinel(&(monitor + &tls_settings(&authority, &sentinel_port).join("\n")));
    let ca = authority.path("ca.pem");
    let one = format!("rediss://localhost:{tls_port}");
    for address in [one.clone(), format!("rediss+sentinel://127.0.0.1:{sentinel_port}/orders")] {
        let node =
            Process::start(&["--persistence", "redis", "--transport", "redis", "--redis", &address, "--redis-ca", &ca])
                .await;
        node.places_an_order().await;
        let verified = run(&["verify", &address, "--redis-ca", &ca]).await;
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
    assert_eq!(server.cli(&["XLEN", "{ordersystem}:log"]), "2");

    let stranger = Authority::with_files();
    let (other, key, none) = (stranger.path("ca.pem"), stranger.path("server.key"), stranger.path("none.pem"));
    let plain = server.url();
    for (address, file, words) in [
        (&one, &none, "none.pem cannot be read"),
        (&one, &key, "server.key holds no certificate in PEM"),
        (&plain, &ca, "the address does not use TLS: write rediss://"),
    ] {
        is_refused(&["--persistence", "redis", "--redis", address, "--redis-ca", file], &["redis-ca: ", words]).await;
    }
    let args = ["--persistence", "redis", "--redis", &one, "--redis-ca", &other];
    let lines = said(&args, Duration::from_secs(4)).await;
    assert!(lines.iter().any(|line| line.contains("not signed by a trusted authority")), "{lines:#?}");
    let unused = run(&["--redis-ca", &ca]).await;
    assert!(unused.code == Some(2) && unused.stderr.contains("nothing uses Redis"), "{unused:?}");
}

#[tokio::test]
async fn a_redis_with_tls_of_a_private_authority_is_trusted_by_ssl_cert_file() {
    let authority = Authority::with_files();
    let tls_port = free_port().to_string();
    let (cert, key, ca) = (authority.path("server.pem"), authority.path("server.key"), authority.path("ca.pem"));
    let tls = [
        &["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca][..],
        &["--tls-auth-clients", "no"],
    ];
    let server = RedisServer::start(&[DURABLE, &tls.concat()].concat());
    let address = format!("rediss://localhost:{tls_port}");
    let args = ["--port", "0", "--persistence", "redis", "--redis", &address];
    let mut child = program().args(args).env("SSL_CERT_FILE", &ca).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap() {
        said.push(line);
        if said.iter().any(|line| line.contains("connected to Redis")) {
            break;
        }
    }
    assert!(said.iter().any(|line| line.contains("connected to Redis")), "{said:#?}");
    assert_eq!(server.cli(&["EXISTS", "{ordersystem}:log-id"]), "1");

    let elsewhere = format!("rediss://127.0.0.1:{tls_port}");
    let args = ["--port", "0", "--persistence", "redis", "--redis", &elsewhere];
    let mut child = program().args(args).env("SSL_CERT_FILE", &ca).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let is_it = |line: &str| {
        line.contains(&format!("Redis at 127.0.0.1:{tls_port} cannot be used: its certificate is for another name"))
            && line.contains("localhost")
    };
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap() {
        if is_it(&line) {
            break;
        }
        assert!(!line.contains("cannot be used"), "{line}");
    }

    for (address, expected) in [
        (address, "SSL_CERT_FILE"),
        (format!("rediss://localhost:{}", server.port), "does not speak TLS"),
        (format!("redis://localhost:{tls_port}"), "rediss://"),
    ] {
        let lines = self::said(&["--persistence", "redis", "--redis", &address], Duration::from_secs(4)).await;
        let host = address.split("//").nth(1).unwrap();
        let is_it =
            |line: &&String| line.contains(&format!("Redis at {host} cannot be used")) && line.contains(expected);
        assert!(lines.iter().any(|line| is_it(&line)), "{address}: {lines:#?}");
    }
}
