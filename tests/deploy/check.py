#!/usr/bin/env python3
"""The deployment files, checked without Docker and without a cluster: Dockerfile, docker-compose.yml, deploy/.

usage: check.py BINARY --tools FOLDER [--only WORD]     only checks with this word in their names

tests/deploy/tools.sh fills the folder. Every setting goes through the real program, which runs on real brokers with the deployed
files. Prints a table; exits with 1 if there are problems.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import programs
from programs import harness


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--only", default="", metavar="WORD")
    args = parser.parse_args()
    programs.BINARY, programs.TOOLS = args.binary.resolve(), args.tools.resolve()
    # Only now are their functions known.
    import compose
    import image
    import kubernetes
    import observability

    failed = done = 0
    with tempfile.TemporaryDirectory() as folder, harness.folder_of_brokers() as brokers:
        programs.BROKERS = Path(brokers)
        for part in (image, compose, kubernetes, observability):
            try:
                checks = part.checks(Path(folder) / part.__name__)
            except programs.CheckFailed as error:
                checks, failed = [], failed + 1
                print(f"FAILED  {part.__name__}: {error}", flush=True)
            for name, check in checks:
                if args.only not in f"{part.__name__}: {name}":
                    continue
                started, outcome, done = time.monotonic(), "passed", done + 1
                try:
                    check()
                except Exception as error:  # any error: the other checks still run
                    outcome, failed = "FAILED", failed + 1
                    print(f"{error!r}", file=sys.stderr)
                print(f"{outcome}  {time.monotonic() - started:5.1f} s  {part.__name__}: {name}", flush=True)
    print(f"{done} checks, {failed} failed")
    sys.exit(failed > 0 or done == 0)


if __name__ == "__main__":
    main()
