#!/usr/bin/env python3
"""The OpenAPI document against the live server, with requests that schemathesis generates from the document alone.

usage: rest.py BINARY [SEED]

Needs the packages of rest/requirements.txt in the Python that runs this. With an embedded store and with one in memory, every operation gets
requests that the document allows and requests that it does not. No reply may be a fault of the server; every reply must have a status, a
content type, headers and a body according to the document; invalid requests must be refused, and valid ones must not. Prints the seed;
exits with 1 if there are problems.
"""

import concurrent.futures
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from harness import AUTHORIZATION, Node

HERE = pathlib.Path(__file__).resolve().parent / "rest"
# Phases with random requests take the rest of this time.
MAX_TIME_S = 70


def check(binary, seed, name, settings):
    """Whether the server with these settings matches its document."""
    with Node(binary, "--log-level", "error", *settings).until_ready() as node:
        command = [pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml"]
        command += ["run", f"{node.url}/openapi.json", "--seed", str(seed), "--max-time", str(MAX_TIME_S)]
        command += ["--checks", "all", "--continue-on-failure", "--output-sanitize", "false", "--no-color"]
        command += [part for name, value in AUTHORIZATION.items() for part in ("--header", f"{name}: {value}")]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                command, cwd=folder, env=environment, timeout=10 * MAX_TIME_S, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        print(f"=== {name}, seed {seed}\n{done.stdout}", flush=True)
        if not node.is_running():
            print(f"the server has ended with {node.process.returncode}")
            return False
        if node.output():
            node.show()
        return done.returncode == 0


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    with tempfile.TemporaryDirectory() as folder:
        print(f"seed {seed}", flush=True)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = {
                name: pool.submit(check, binary, seed, name, settings)
                for name, settings in [
                    ("embedded", ["--persistence", "embedded", "--data-dir", folder]),
                    ("inmemory", []),
                ]
            }
            outcomes = {name: run.result() for name, run in running.items()}
    for name, is_good in outcomes.items():
        print(f"{name}: {'as its document says' if is_good else f'NOT as its document says, seed {seed}'}")
    sys.exit(not all(outcomes.values()))


if __name__ == "__main__":
    main()
