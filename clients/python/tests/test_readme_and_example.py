"""The README and the example match the actual behaviour."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from server import Redis, Server

CLIENT = Path(__file__).resolve().parents[1]


@pytest.fixture
def secure(tmp_path: Path, redis: Redis | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that requires client certificates; those that the README names are in the working folder."""
    ca = Authority(tmp_path)
    ca.issue("server")
    ca.issue("client")
    monkeypatch.chdir(tmp_path)
    args = ["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem"]
    server = Server(tmp_path, redis, f"secure-{tmp_path.name}"[:64], args, ca.credentials("client"))
    server.start()
    yield server
    server.kill()


def test_the_blocks_of_the_readme_run_one_after_the_other_and_print_what_they_show(server: Server, secure: Server) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (CLIENT / "README.md").read_text(), re.S | re.M)
    assert len(blocks) > 5
    names: dict[str, object] = {}
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = block.replace("127.0.0.1:5000", server.address).replace("127.0.0.1:5001", secure.address)
            exec(compile(code, "README.md", "exec"), names)  # noqa: S102
        expected = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M)
        assert printed.getvalue().splitlines() == expected, block


def test_the_example_continues_after_a_restart_of_the_server(server: Server) -> None:
    command = [sys.executable, str(CLIENT / "example.py"), server.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdin and example.stdout
        # To the prompt: communicate() would lose what readline() has buffered.
        first = [example.stdout.readline().strip() for _ in range(7)]
        server.stop()
        server.start()
        rest, _ = example.communicate("\n", timeout=30)
    assert first == [
        "readiness: SERVING",
        "placed: ORDER_STATUS_PENDING",
        "refused: FAILED_PRECONDITION ILLEGAL_TRANSITION Pending",
        "paid: ORDER_STATUS_PAID - the retry got the first answer: True",
        "event: 1 order_created",
        "event: 2 order_paid",
        "restart the service if you like, then press Enter",
    ]
    assert rest.splitlines() == [
        "event: 3 order_shipped",
        "event: 4 order_delivered",
        "too late: DEADLINE_EXCEEDED",
    ]
    assert example.returncode == 0
