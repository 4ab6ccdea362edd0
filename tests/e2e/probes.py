#!/usr/bin/env python3
"""Container probes against the real program: plain and with TLS, in normal operation, broken, while starting and while stopping.

usage: probes.py [--without-grpc-health-probe] [--short] BINARY

--short: without TLS and without a broker.

Needs go, openssl and redis-server, and grpc_health_probe in the PATH unless --without-grpc-health-probe is given. The same check is made by three probes: the gRPC probe
of Kubernetes (probes/kubelet/main.go calls as it does), `ordersystem health` as an exec probe, and grpc_health_probe. Prints a line for each
check; exits with 1 if one fails.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import harness
from harness import Redis, free_port, status_of

HERE = pathlib.Path(__file__).resolve().parent / "probes"
READY = ["", "readiness", "catga.orders.v1.OrderCommandService", "catga.system.v1.AdminService"]
KUBELET_TIMEOUT_S = 1

failures = []


def expect(what, expected, actual):
    is_ok = expected == actual
    print(f"{'ok    ' if is_ok else 'WRONG '} {what}: {actual}" + ("" if is_ok else f", expected {expected}"), flush=True)
    if not is_ok:
        failures.append(what)


def until(what, condition):
    try:
        harness.until(what, condition)
        expect(what, True, True)
    except AssertionError as error:
        expect(what, True, str(error))


def run(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
    return done.returncode, done.stdout.strip()


class Probes:
    """The three probes, for one machine."""

    def __init__(self, binary, folder, with_health_probe):
        self.binary = binary
        self.kubelet = str(folder / "kubelet")
        subprocess.run(["go", "build", "-o", self.kubelet, "."], cwd=HERE / "kubelet", check=True)
        self.health_probe = shutil.which("grpc_health_probe") or shutil.which("grpc-health-probe")
        if not with_health_probe:
            self.health_probe = None
        elif self.health_probe is None:
            sys.exit("there is no grpc_health_probe on this machine")

    def by_kubelet(self, port, service=""):
        """The answer, and whether the probe succeeded."""
        code, answer = run([self.kubelet, f"127.0.0.1:{port}", service, f"{KUBELET_TIMEOUT_S}s"])
        return answer, code == 0

    def by_exec(self, node, service="", *more):
        """The exit code of `ordersystem health` with the environment of the node's container."""
        return run([self.binary, "health", "--service", service, *more], node.env)[0]

    def until_alive(self, node):
        node.until("the node is alive", lambda: self.by_exec(node, "liveness") == 0)

    def by_health_probe(self, port, service="", *more):
        return run([self.health_probe, f"-addr=127.0.0.1:{port}", f"-service={service}", *more])[0]

    def expect_all(self, what, node, service, answer):
        """All three agree that the state of `service` on a node without TLS is `answer`."""
        is_ok = answer == "SERVING"
        name = f"{what}, {service or 'the whole node'}"
        expect(f"{name}, kubelet", (answer, is_ok), self.by_kubelet(node.port, service))
        expect(f"{name}, exec", 0 if is_ok else 1, self.by_exec(node, service))
        if self.health_probe:
            expected = {"SERVING": 0, "NOT_SERVING": 4, "NotFound": 3, "DeadlineExceeded": 2}[answer]
            expect(f"{name}, grpc_health_probe", expected, self.by_health_probe(node.port, service))


class Node(harness.Node):
    """The program, configured by its environment as in a container."""

    def __init__(self, binary, **settings):
        port = free_port()
        named = {f"ORDERSYSTEM_{name.upper()}": str(value) for name, value in settings.items()}
        own = {"ORDERSYSTEM_PORT": str(port), "ORDERSYSTEM_LOG_LEVEL": "off"}
        super().__init__(binary, port=port, env={"PATH": os.environ["PATH"], **own, **named})

    def until_serving(self, *more_ports):
        for port in (self.port, *more_ports):
            self.until_listening(port)
        return self


def plain(probes):
    with Node(probes.binary).until_serving() as node:
        until("plain, ready", lambda: probes.by_exec(node) == 0)
        for service in [*READY, "liveness"]:
            probes.expect_all("plain", node, service, "SERVING")
        probes.expect_all("plain", node, "no.such.Service", "NotFound")


def no_listener(probes):
    with Node(probes.binary) as node:
        node.kill()
        probes.expect_all("nothing listens", node, "", "DeadlineExceeded")


def silent_server(probes):
    """A server that accepts connections and never sends anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        port = listener.getsockname()[1]
        started = time.monotonic()
        expect("silence, kubelet", ("DeadlineExceeded", False), probes.by_kubelet(port))
        code, _ = run([probes.binary, "health", "--address", f"127.0.0.1:{port}", "--timeout-ms", "500"])
        expect("silence, exec", 1, code)
        expect("silence, each gave up after its timeout", True, time.monotonic() - started < 15)
        if probes.health_probe:
            expect("silence, grpc_health_probe", 2, probes.by_health_probe(port))


def port_of_its_own(probes):
    grpc_port = free_port()
    with Node(probes.binary, grpc_port=grpc_port).until_serving(grpc_port) as node:
        until("own port, ready", lambda: probes.by_exec(node) == 0)
        expect("own port, kubelet", ("SERVING", True), probes.by_kubelet(grpc_port, "readiness"))
        expect("own port, kubelet at the other port", ("SERVING", True), probes.by_kubelet(node.port, "readiness"))
        expect("own port, HTTP there", 404, status_of(grpc_port, "GET", "/health/ready"))
        expect("own port, HTTP at the other port", 200, status_of(node.port, "GET", "/health/ready"))
        if probes.health_probe:
            expect("own port, grpc_health_probe", 0, probes.by_health_probe(grpc_port, "readiness"))


def certificates(folder):
    """ca.pem, and server and client signed by it."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=an authority")
    for name in ["server", "client"]:
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text(f"subjectAltName=DNS:{name}.example")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")


def tls(probes, folder):
    files = {"tls_cert": folder / "server.pem", "tls_key": folder / "server.key"}
    tls_flags = ["-tls", f"-tls-ca-cert={folder / 'ca.pem'}", "-tls-server-name=server.example"]
    with Node(probes.binary, **files).until_serving() as node:
        until("TLS, ready", lambda: probes.by_exec(node) == 0)
        for service in ["readiness", "liveness"]:
            expect(f"TLS, {service}, exec", 0, probes.by_exec(node, service))
        named = ["--address", f"127.0.0.1:{node.port}", "--ca", str(folder / "ca.pem"), "--server-name"]
        expect("TLS, the right name, exec", 0, probes.by_exec(node, "", *named, "server.example"))
        expect("TLS, another name, exec", 1, probes.by_exec(node, "", *named, "other.example"))
        expect("TLS, kubelet, which speaks none", ("DeadlineExceeded", False), probes.by_kubelet(node.port))
        if probes.health_probe:
            expect("TLS, grpc_health_probe", 0, probes.by_health_probe(node.port, "readiness", *tls_flags))
            expect("TLS, grpc_health_probe in the clear", 2, probes.by_health_probe(node.port, "readiness"))


def mutual_tls(probes, folder):
    files = {"tls_cert": folder / "server.pem", "tls_key": folder / "server.key", "tls_client_ca": folder / "ca.pem"}
    client_flags = ["--cert", str(folder / "client.pem"), "--key", str(folder / "client.key")]
    tls_flags = ["-tls", f"-tls-ca-cert={folder / 'ca.pem'}", "-tls-server-name=server.example"]
    own = [f"-tls-client-cert={folder / 'client.pem'}", f"-tls-client-key={folder / 'client.key'}"]
    with Node(probes.binary, **files).until_serving() as node:
        until("mTLS, ready", lambda: probes.by_exec(node, "", *client_flags) == 0)
        for service in ["readiness", "liveness"]:
            expect(f"mTLS, {service}, exec", 0, probes.by_exec(node, service, *client_flags))
        expect("mTLS, no certificate, exec", 1, probes.by_exec(node, "", "--ca", str(folder / "ca.pem"), "--server-name", "server.example"))
        if probes.health_probe:
            expect("mTLS, grpc_health_probe", 0, probes.by_health_probe(node.port, "readiness", *tls_flags, *own))
            expect("mTLS, no certificate, grpc_health_probe", True, probes.by_health_probe(node.port, "", *tls_flags) in (2, 3))


def broker_unreachable(probes, folder):
    """Starts while Redis is unavailable, works when it is available, and is out of service when it is unavailable again; alive throughout."""
    port = free_port()
    with Node(probes.binary, persistence="redis", redis=f"127.0.0.1:{port}").until_serving() as node:
        # It listens and answers while it still waits for Redis.
        probes.until_alive(node)
        probes.expect_all("started without Redis", node, "readiness", "NOT_SERVING")
        probes.expect_all("started without Redis", node, "liveness", "SERVING")
        with Redis(folder, port=port) as redis:
            until("Redis available, ready", lambda: probes.by_exec(node) == 0)
            probes.expect_all("Redis available", node, "readiness", "SERVING")
            redis.kill()
            until("Redis unavailable, noticed", lambda: probes.by_exec(node) != 0)
            probes.expect_all("Redis unavailable", node, "readiness", "NOT_SERVING")
            probes.expect_all("Redis unavailable", node, "catga.orders.v1.OrderCommandService", "NOT_SERVING")
            probes.expect_all("Redis unavailable", node, "liveness", "SERVING")
            redis.start()
            until("Redis back, ready", lambda: probes.by_exec(node) == 0)
            probes.expect_all("Redis back", node, "readiness", "SERVING")
            probes.expect_all("Redis back", node, "liveness", "SERVING")


def stopping(probes):
    """A node that is told to stop while a call is open: out of service at once, alive until it has stopped."""
    with Node(probes.binary).until_serving() as node:
        until("ending, ready before", lambda: probes.by_exec(node) == 0)
        # A body that does not arrive keeps the call in flight.
        with socket.create_connection(("127.0.0.1", node.port)) as call:
            call.sendall(b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{")
            time.sleep(0.5)
            node.signal(signal.SIGTERM)
            until("ending, out of service", lambda: not probes.by_kubelet(node.port, "readiness")[1])
            expect("ending, still there", None, node.process.poll())
            probes.expect_all("ending", node, "readiness", "NOT_SERVING")
            probes.expect_all("ending", node, "liveness", "SERVING")
        expect("ending, exit code", 0, node.process.wait(30))


def main():
    args = sys.argv[1:]
    with_health_probe = "--without-grpc-health-probe" not in args
    (binary,) = [arg for arg in args if not arg.startswith("--")]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        probes = Probes(str(pathlib.Path(binary).resolve()), folder, with_health_probe)
        certificates(folder)
        plain(probes)
        no_listener(probes)
        port_of_its_own(probes)
        if "--short" not in args:
            silent_server(probes)
            tls(probes, folder)
            mutual_tls(probes, folder)
            broker_unreachable(probes, folder)
        stopping(probes)
    print(f"{len(failures)} checks failed" if failures else "all checks passed")
    if not with_health_probe:
        print("grpc_health_probe was not used, as requested")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
