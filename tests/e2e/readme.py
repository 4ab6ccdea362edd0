#!/usr/bin/env python3
"""Runs the commands of a page against a fresh server and compares the output with the page.

usage: readme.py [--write] [--every-rpc PROTO_DIR] [--tables PROTO_DIR] BINARY PAGE

Every fenced block marked `console` is a list of commands, each after `$ `, with its output. They run one after the other in one shell,
in an empty folder, on a server that was started without flags; `ordersystem` is BINARY there. Values that differ from run to run (ids,
times, cursors, tokens) are replaced by their kind on both sides before the comparison; a line `…` in the page stands for any number of
lines.

--every-rpc: in addition, the page has to call every RPC of the .proto files below PROTO_DIR and every other RPC of the server.
--tables: in addition, the page's tables have to name every RPC of those files, in the row of its service, and every operation of the
OpenAPI document that the server serves, as `GET /orders`. Paths that also exist below /api, and files of pages, count as the one without.
--write: corrects the page instead.
"""

import argparse
import difflib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from harness import Node, call

VARYING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"(?<![\w-])[Yd](?:[\w-]{33}|[\w-]{38})(?![\w-])", "<cursor>"),
    (r'("nextPageToken": )"[\w-]{55}"', r'\1"<page token>"'),
    (r"\b\d{17,19}\b", "<id>"),
    (r'(sha256 = )"[0-9a-f]{64}"', r'\1"<hash>"'),
    (r'"(uptime|latencyMs)": ?"?[0-9.e-]+s?"?', r'"\1": <varies>'),
    (r"(?i)^(date|content-length): .*$", r"\1: <varies>"),
    (r'\b(lag|handled): \d+', r'\1: <varies>'),
    (r"oldest pending: [0-9.]+ s", "oldest pending: <varies>"),
    (r'"(sequence)": ?\d+', r'"\1": <varies>'),
    (r"(_seconds_(sum|bucket|count)|_total|_position)(\{[^}]*\})? [0-9.e-]+", r"\1\3 <varies>"),
]
# Where a server without flags listens.
PORT = 5000
END = "--end-of-command--"


def commands(page):
    """Every command with its lines in the page and its expected output, in order."""
    for block in re.findall(r"^```console\n(.*?)^```", page, re.S | re.M):
        command, shown, output = None, [], []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command is not None:
                    yield command, shown, output
                command, shown, output = line[2:], [line], []
            elif line.startswith("> ") and not output:
                command += "\n" + line[2:]
                shown.append(line)
            else:
                output.append(line)
        if command is not None:
            yield command, shown, output


def normalized(lines):
    text = "\n".join(lines)
    for pattern, kind in VARYING:
        text = re.sub(pattern, kind, text, flags=re.M)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def matches(expected, actual):
    """Whether the lines are the same; `…` stands for any number of lines."""
    if not expected:
        return not actual
    if expected[0].strip() == "…":
        return any(matches(expected[1:], actual[n:]) for n in range(len(actual) + 1))
    return bool(actual) and expected[0] == actual[0] and matches(expected[1:], actual[1:])


def run(shell, command):
    shell.stdin.write(f"{command}\nprintf '\\n%s\\n' {END}\n")
    shell.stdin.flush()
    lines = []
    for line in shell.stdout:
        if line.strip() == END:
            return lines
        lines.append(line.rstrip("\n"))
    sys.exit(f"the shell ended in: {command}")


def rpcs_of(folder):
    """Every RPC of the .proto files below `folder`, as `package.Service/Method`."""
    for path in sorted(pathlib.Path(folder).rglob("*.proto")):
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        package = re.search(r"^package ([\w.]+);", text, re.M)[1]
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.S | re.M):
            for method in re.findall(r"\brpc (\w+)", body):
                yield f"{package}.{service}/{method}"


def rpcs_of_server():
    """Every RPC that the server lists by reflection."""
    def listed(*names):
        command = ["grpcurl", "-plaintext", f"127.0.0.1:{PORT}", "list", *names]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()

    for service in listed():
        for name in listed(service):
            yield "/".join(name.rsplit(".", 1))


def uncalled_rpcs(page, rpcs):
    """Those RPCs that no command of the page calls."""
    called = " ".join(command for command, _, _ in commands(page)).split()
    return sorted(set(rpcs) - set(called))


def operations_of_server():
    """Every operation of the server's OpenAPI document, as `GET /orders`."""
    for path, methods in call(PORT, "GET", "/openapi.json")["paths"].items():
        path = re.sub(r"^/api(?=/orders)|(?<=.)/(\{file\})?$", "", path)
        for method in methods:
            if method in ("get", "post", "put", "patch", "delete", "head", "options"):
                yield f"{method.upper()} {path}"


def missing_in_tables(page, rpcs, operations):
    """The RPCs and operations that no table row of the page names."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([A-Z]+ /[^`]*)`", row)}
    served = set(operations)
    for rpc in sorted(set(rpcs)):
        service, method = rpc.split("/")
        if not any(row.startswith(f"| `{service}` |") and f"`{method}`" in row for row in rows):
            yield rpc
    yield from sorted(served - named)
    # And the reverse: nothing that does not exist.
    yield from (f"{name}, which the server does not have" for name in sorted(named - served))


def start(binary, folder):
    """The server, and a shell in `folder` in which its name works."""
    (folder / "bin").mkdir()
    (folder / "bin" / "ordersystem").symlink_to(pathlib.Path(binary).resolve())
    (folder / "work").mkdir()
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    server = Node(binary, port=PORT)
    shell = subprocess.Popen(
        ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=folder / "work", env=environment, start_new_session=True,
    )
    return server, shell


def stop(server, shell):
    # With everything that the page has started in it.
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--every-rpc", metavar="PROTO_DIR")
    parser.add_argument("--tables", metavar="PROTO_DIR")
    parser.add_argument("binary")
    parser.add_argument("page", type=pathlib.Path)
    args = parser.parse_args()
    page = args.page.read_text(encoding="utf-8")
    folder = tempfile.TemporaryDirectory()
    server, shell = start(args.binary, pathlib.Path(folder.name))
    failed = count = 0
    # The corrected page, for --write.
    written, rest = "", page
    try:
        server.until_ready()
        for command, shown, expected in commands(page):
            count += 1
            actual = run(shell, command)
            before, after = rest.split("\n".join(shown + expected), 1)
            if matches(normalized(expected), normalized(actual)):
                written, rest = written + before + "\n".join(shown + expected), after
                continue
            failed += 1
            written, rest = written + before + "\n".join(shown + strip_blank_lines(actual)), after
            print(f"--- {command}")
            differences = difflib.unified_diff(normalized(expected), normalized(actual), args.page.name, "what came back", lineterm="")
            print("\n".join(differences))
        missing = uncalled_rpcs(page, [*rpcs_of(args.every_rpc), *rpcs_of_server()]) if args.every_rpc else []
        mismatches = list(missing_in_tables(page, rpcs_of(args.tables), operations_of_server())) if args.tables else []
    finally:
        stop(server, shell)
        folder.cleanup()
    if args.write:
        args.page.write_text(written + rest, encoding="utf-8")
    for rpc in missing:
        print(f"the page has no call of {rpc}")
    for name in mismatches:
        print(f"the tables of the page do not fit: {name}")
    print(f"{count - failed} commands of {args.page.name} answer as shown, {failed} do not")
    sys.exit(failed > 0 or count == 0 or len(missing) > 0 or len(mismatches) > 0)


def strip_blank_lines(lines):
    """The lines without leading and trailing empty ones."""
    return "\n".join(lines).strip("\n").split("\n") if any(lines) else []


if __name__ == "__main__":
    main()
