"""Prometheus and Grafana: the files are valid, and everything that they query exists in a real Prometheus that scrapes a real node."""

import json
import re
import urllib.parse

import yaml

import compose
import image
from programs import ROOT, Node, Process, free_port, get, check_that, run, tool, until

FOLDER = ROOT / "deploy/observability"


def dashboard():
    return json.loads((FOLDER / "grafana/dashboards/ordersystem.json").read_text())


def dashboard_queries():
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def alert_queries():
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def promtool():
    run(tool("promtool"), "check", "config", FOLDER / "prometheus.yml")
    run(tool("promtool"), "check", "rules", "--lint-fatal", FOLDER / "alerts.yml")
    run(tool("promtool"), "test", "rules", FOLDER / "alerts_test.yml")
    tested = (FOLDER / "alerts_test.yml").read_text()
    for alert, _ in alert_queries():
        check_that(f"alertname: {alert}\n" in tested, f"{alert} has a test in alerts_test.yml")


def targets():
    """Every node of docker-compose.yml is scraped, once."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    scraped = []
    for job in config["scrape_configs"]:
        check_that(re.fullmatch("ordersystem.*", job["job_name"]), "alerts go by the name of the job")
        for static in job.get("static_configs", []):
            scraped += static["targets"]
        for names in job.get("dns_sd_configs", []):
            scraped += [f"{name}:{names['port']}" for name in names["names"]]
        for relabel in job.get("relabel_configs", []):
            if relabel["target_label"] == "__address__":
                check_that(relabel["replacement"] == f"$1:{compose.ADMIN_PORT}", "the name is asked for, at the port for operators")
    port = compose.ADMIN_PORT
    expected = sorted(f"{name}:{port}" for name in compose.nodes(compose.compose_model()["services"]))
    check_that(sorted(scraped) == expected, f"scraped are {sorted(scraped)}, not {expected}")


def grafana():
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    check_that(source["url"] == "http://prometheus:9090" and "prometheus" in compose.compose_model()["services"], "Grafana finds Prometheus")
    for panel in dashboard()["panels"]:
        check_that(panel["datasource"]["uid"] == source["uid"], f"{panel['title']}: its data source is there")
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/ordersystem.yml").read_text())["providers"][0]
    service = compose.compose_model()["services"]["grafana"]
    mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
    check_that(mounts[provider["options"]["path"]] == str(FOLDER / "grafana/dashboards"), "Grafana finds the dashboards")
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    check_that(home == provider["options"]["path"] + "/ordersystem.json", "and opens with it")
    panels = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [(x, y) for p in panels for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    check_that(len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "no panel lies on another")


def queried_metrics():
    """(where, metric, its matchers) of every queried metric."""
    for where, query in [*alert_queries(), *dashboard_queries()]:
        for metric, matchers in re.findall(r"\b((?:ordersystem|rpc_server|http_server|db_client|process|tokio)_\w+)(?:\{([^}]*)\})?", query):
            yield where, metric, re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', matchers)


def make_ready_and_call(node):
    """A node that is ready, and has been called over both APIs: durations exist from the first call on."""
    node.until_ready()
    node.passes_health_command()


def metrics_exist(folder):
    """Metrics and their label values exist from the start: a counter that appears with its first failure would hide it."""
    with Node(image.settings() | {"ORDERSYSTEM_PERSISTENCE": "embedded"}, folder) as node:
        make_ready_and_call(node)
        text = get(node.url("/metrics"))
    checked = run(tool("promtool"), "check", "metrics", input=text)
    check_that(not checked.stdout + checked.stderr, f"promtool has nothing to say about the text: {checked.stdout + checked.stderr}")
    lines = text.splitlines()
    samples = [(line.split("{")[0].split(" ")[0], dict(re.findall(r'(\w+)="([^"]*)"', line))) for line in lines if line and line[0] != "#"]
    queried = list(queried_metrics())
    check_that(len(queried) > 30, f"{len(queried)} are asked for")
    for where, metric, matchers in queried:
        # Only of a node with TLS, and of one that identifies its callers.
        if metric in ("ordersystem_certificate_expiry_seconds", "ordersystem_identities_current"):
            continue
        values = [labels for name, labels in samples if name == metric]
        check_that(values, f"{where}: there is no metric {metric}")
        for label, operator, value in matchers:
            # `log` comes from the scrape configuration; the node information differs from node to node.
            if label == "log" or metric == "ordersystem_info":
                continue
            fits = [labels for labels in values if label in labels and (labels[label] == value if operator == "=" else re.fullmatch(value, labels[label]))]
            check_that(fits, f"{where}: no {metric} has {label}{operator}{value!r}")


def prometheus_reads_it(folder):
    """The real thing: the rules are evaluated without an error, every panel has data, and a healthy node raises no alert."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    folder.mkdir(parents=True)
    port = free_port()
    with Node(image.settings() | {"ORDERSYSTEM_PERSISTENCE": "embedded"}, folder / "node") as node:
        make_ready_and_call(node)
        first = config["scrape_configs"][0]
        first["static_configs"][0]["targets"] = [f"127.0.0.1:{node.port}"]
        config["scrape_configs"] = [first]
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / "alerts.yml")]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        args = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
        with Process([tool("prometheus"), *args]):
            api = f"http://127.0.0.1:{port}/api/v1"

            def query(text):
                return json.loads(get(f"{api}/query?query={urllib.parse.quote(text)}"))["data"]["result"]

            until("Prometheus has read the node", lambda: query("up == 1"))
            for title, expr in dashboard_queries():
                node.create_order()
                for value in (".*", "default"):
                    until(f"{title} has data", lambda expr=expr, value=value: query(expr.replace("$log", value)))
            rules = lambda: [rule for group in json.loads(get(f"{api}/rules"))["data"]["groups"] for rule in group["rules"]]
            until("every rule was evaluated", lambda: all(rule["health"] != "unknown" for rule in rules()))
            for rule in rules():
                check_that(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}")
                check_that(rule["state"] == "inactive", f"{rule['name']} is {rule['state']} for a node that is well")
            node.kill()
            until("a node that is gone raises its alert", lambda: any(
                rule["name"] == "OrderSystemUnreachable" and rule["state"] == "pending" for rule in rules()))


def checks(folder):
    return [
        ("Prometheus accepts its files, and every alert comes when it should", promtool),
        ("every node of docker-compose.yml is scraped", targets),
        ("Grafana finds its data source and its dashboard", grafana),
        ("every metric that is asked for exists", lambda: metrics_exist(folder / "metrics")),
        ("a Prometheus that reads a node has data for every panel, and no alert", lambda: prometheus_reads_it(folder / "prometheus")),
    ]
