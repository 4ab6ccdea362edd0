#!/usr/bin/env python3
"""Other callers of a node that identifies its callers: the commands for a running node, and Prometheus.

usage: WITH_IDENTITIES=1 callers.py BINARY --tools FOLDER      FOLDER has prometheus: tests/deploy/tools.sh FOLDER
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from harness import KEY, TIMEOUT_S, Node, Process, free_port, until

READER = "orderkey_test-only-reader---------------------------"


def key_file(folder, name, key):
    """A file with a key, which only this user can read."""
    path = pathlib.Path(folder) / name
    path.touch(mode=0o600)
    path.write_text(key + "\n")
    return str(path)


def commands(binary, node, keys):
    """Problems with the commands for a running node."""
    operator, reader = keys
    refused, forbidden = "this needs credentials", "this needs one of the roles operator"
    for command, token_file, code, expected_text in [
        (["health"], None, 0, ""),
        (["health"], reader, 0, ""),
        (["dead-letters", "list", "order-event-logger"], operator, 0, ""),
        (["dead-letters", "list", "order-event-logger"], None, 1, refused),
        (["dead-letters", "list", "order-event-logger"], reader, 1, forbidden),
        (["dead-letters", "replay", "order-event-logger", "--all"], operator, 0, ""),
        (["projections", "rebuild"], operator, 0, ""),
        (["projections", "rebuild"], None, 1, refused),
        (["projections", "rebuild"], reader, 1, forbidden),
    ]:
        more = ["--token-file", token_file] if token_file else []
        argv = [binary, *command, "--address", f"127.0.0.1:{node.port}", *more]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode != code or expected_text not in done.stderr:
            yield f"{' '.join(command)} {more}: {done}"


def targets(port):
    """The health and last error of each scrape target, by job."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=10) as answer:
        found = json.load(answer)["data"]["activeTargets"]
    return {target["labels"]["job"]: (target["health"], target["lastError"]) for target in found}


def prometheus(program, node, keys, folder):
    """Problems of scraping with a key, without a key, and with a key that lacks the role."""
    operator, reader = keys
    port, config = free_port(), pathlib.Path(folder) / "prometheus.yml"
    job = lambda name, more="": f"  - job_name: {name}\n{more}    static_configs: [{{targets: ['127.0.0.1:{node.port}']}}]\n"
    with_key = lambda file: f"    authorization: {{credentials_file: {file}}}\n"
    jobs = job("operator", with_key(operator)) + job("reader", with_key(reader)) + job("nobody")
    config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
    args = [f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with Process([program, *args]):
        until("it has asked", lambda: {health for health, _ in targets(port).values()} == {"up", "down"} and "unknown" not in str(targets(port)))
        found = targets(port)
    for name, health, expected_text in [("operator", "up", ""), ("reader", "down", "403"), ("nobody", "down", "401")]:
        if found[name][0] != health or expected_text not in found[name][1]:
            yield f"Prometheus as {name}: {found[name]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--tools", required=True, help="the folder with prometheus")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Node(options.binary).until_ready() as node:
        if node.identities is None:
            sys.exit("set WITH_IDENTITIES=1")
        keys = key_file(folder, "operator.key", KEY), key_file(folder, "reader.key", READER)
        failures = [*commands(options.binary, node, keys), *prometheus(f"{options.tools}/prometheus", node, keys, folder)]
    print("\n".join(failures) or "the commands for a node and Prometheus are admitted with their keys, and refused without")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
