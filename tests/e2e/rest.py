#!/usr/bin/env python3
"""The OpenAPI document against the live server, with requests that schemathesis generates from the document alone.

usage: run.py BINARY [SEED]

Needs the packages of requirements.txt in the Python that runs this. With an embedded store and with one in memory, every operation gets
requests that the document allows and requests that it does not. No reply may be a fault of the server; every reply must have a status, a
content type, headers and a body according to the document; invalid requests must be refused, and valid ones must not. Prints the seed;
exits with 1 if there are problems.
"""

import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
# Phases with random requests take the rest of this time.
MAX_TIME_S = 70


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_ready(url, server):
    for _ in range(200):
        if server.poll() is not None:
            sys.exit(f"the server has ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"{url}/health/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server is not ready after 10 s")


def check(binary, seed, name, settings):
    """Whether the server with these settings matches its document."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([binary, "--port", str(port), "--log-level", "error", *settings])
    try:
        until_ready(url, server)
        print(f"=== {name}, seed {seed}", flush=True)
        command = [pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml"]
        command += ["run", f"{url}/openapi.json", "--seed", str(seed), "--max-time", str(MAX_TIME_S)]
        command += ["--checks", "all", "--continue-on-failure", "--output-sanitize", "false", "--no-color"]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, cwd=folder, env=environment, timeout=10 * MAX_TIME_S, check=False)
        if server.poll() is not None:
            print(f"the server has ended with {server.returncode}")
            return False
        return done.returncode == 0
    finally:
        server.terminate()
        server.wait()


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = {
            name: check(binary, seed, name, settings)
            for name, settings in [
                ("embedded", ["--persistence", "embedded", "--data-dir", folder]),
                ("inmemory", []),
            ]
        }
    for name, is_good in outcomes.items():
        print(f"{name}: {'as its document says' if is_good else f'NOT as its document says, seed {seed}'}")
    sys.exit(not all(outcomes.values()))


if __name__ == "__main__":
    main()
