"""Prometheus and Grafana: the files are valid, and everything that they query exists in a real Prometheus that scrapes a real node."""

import json
import re
import urllib.parse

import yaml

import compose
import image
from programs import ROOT, Node, Process, free_port, get, need, run, tool, until

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
        need(f"alertname: {alert}\n" in tested, f"{alert} has a test in alerts_test.yml")


def targets():
    """Every node of docker-compose.yml is scraped, once."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    scraped = []
    for job in config["scrape_configs"]:
        need(re.fullmatch("ordersystem.*", job["job_name"]), "alerts go by the name of the job")
        for static in job.get("static_configs", []):
            scraped += static["targets"]
        for names in job.get("dns_sd_configs", []):
            scraped += [f"{name}:{names['port']}" for name in names["names"]]
        for relabel in job.get("relabel_configs", []):
            if relabel["target_label"] == "__address__":
                need(relabel["replacement"] == f"$1:{compose.ADMIN_PORT}", "the name is asked for, at the port for operators")
    port = compose.ADMIN_PORT
    expected = sorted(f"{name}:{port}" for name in compose.nodes(compose.model()["services"]))
    need(sorted(scraped) == expected, f"scraped are {sorted(scraped)}, not {expected}")


def grafana():
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    need(source["url"] == "http://prometheus:9090" and "prometheus" in compose.model()["services"], "Grafana finds Prometheus")
    for panel in dashboard()["panels"]:
        need(panel["datasource"]["uid"] == source["uid"], f"{panel['title']}: its data source is there")
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/ordersystem.yml").read_text())["providers"][0]
    service = compose.model()["services"]["grafana"]
    mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
    need(mounts[provider["options"]["path"]] == str(FOLDER / "grafana/dashboards"), "Grafana finds the dashboards")
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    need(home == provider["options"]["path"] + "/ordersystem.json", "and opens with it")
    panels = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [(x, y) for p in panels for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    need(len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "no panel lies on another")


def asked_for():
    """(where, metric, its matchers) of every queried metric."""
    for where, query in [*alert_queries(), *dashboard_queries()]:
        for metric, matchers in re.findall(r"\b(ordersystem_\w+)(?:\{([^}]*)\})?", query):
            yield where, metric, re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', matchers)


def metrics_exist(folder):
    """Metrics and their label values exist from the start: a counter that appears with its first failure would hide it."""
    with Node(image.settings() | {"ORDERSYSTEM_PERSISTENCE": "embedded"}, folder) as node:
        node.until_ready()
        lines = get(node.url("/metrics")).splitlines()
    have = [(line.split("{")[0].split(" ")[0], dict(re.findall(r'(\w+)="([^"]*)"', line))) for line in lines if line and line[0] != "#"]
    asked = list(asked_for())
    need(len(asked) > 30, f"{len(asked)} are asked for")
    for where, metric, matchers in asked:
        # Only of a node with TLS.
        if metric == "ordersystem_certificate_expiry_seconds":
            continue
        values = [labels for name, labels in have if name == metric]
        need(values, f"{where}: there is no metric {metric}")
        for label, operator, value in matchers:
            # `log` comes from the scrape configuration; the node information differs from node to node.
            if label == "log" or metric == "ordersystem_info":
                continue
            fits = [labels for labels in values if label in labels and (labels[label] == value if operator == "=" else re.fullmatch(value, labels[label]))]
            need(fits, f"{where}: no {metric} has {label}{operator}{value!r}")


def prometheus_reads_it(folder):
    """The real thing: the rules are evaluated without an error, every panel has data, and a healthy node raises no alert."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    folder.mkdir(parents=True)
    port = free_port()
    with Node(image.settings() | {"ORDERSYSTEM_PERSISTENCE": "embedded"}, folder / "node") as node:
        node.until_ready()
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
                need(rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}")
                need(rule["state"] == "inactive", f"{rule['name']} is {rule['state']} for a node that is well")
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
