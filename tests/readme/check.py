#!/usr/bin/env python3
"""Runs the tours of a README against a fresh server and compares what comes back with what the README shows.

usage: check.py BINARY README

Every fenced block marked `console` is a list of commands, each after `$ `, with the output that it has. They run one after
the other in one shell, on a server that was started with no flags. What differs from run to run (ids, times, cursors, tokens)
is replaced by its kind on both sides before the two are compared; a line `…` in the README stands for any number of lines.
"""

import difflib
import re
import subprocess
import sys
import time
import urllib.request

VARYING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"(?<![\w-])[Yd][\w-]{19}(?![\w-])", "<cursor>"),
    (r"\b\d{17,19}\b", "<id>"),
    (r'"(uptime|latencyMs)": ?"?[0-9.e-]+s?"?', r'"\1": <varies>'),
    (r"(?i)^(date|content-length): .*$", r"\1: <varies>"),
    (r'\b(lag|handled): \d+', r'\1: <varies>'),
    (r"oldest pending: [0-9.]+ s", "oldest pending: <varies>"),
    (r'"(sequence)": ?\d+', r'"\1": <varies>'),
    (r"(_seconds_(sum|bucket|count)|_total|_position)(\{[^}]*\})? [0-9.e-]+", r"\1\3 <varies>"),
]
END = "--end-of-command--"


def commands(readme):
    """Every command with its expected output, in order."""
    for block in re.findall(r"^```console\n(.*?)^```", readme, re.S | re.M):
        command, output = None, []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command is not None:
                    yield command, output
                command, output = line[2:], []
            elif line.startswith("> ") and not output:
                command += "\n" + line[2:]
            else:
                output.append(line)
        if command is not None:
            yield command, output


def normal(lines):
    text = "\n".join(lines)
    for pattern, kind in VARYING:
        text = re.sub(pattern, kind, text, flags=re.M)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def matches(expected, actual):
    """Whether the lines are the same, where `…` stands for any number of lines."""
    if not expected:
        return not actual
    if expected[0].strip() == "…":
        return any(matches(expected[1:], actual[n:]) for n in range(len(actual) + 1))
    return bool(actual) and expected[0] == actual[0] and matches(expected[1:], actual[1:])


def until_ready():
    for _ in range(100):
        try:
            urllib.request.urlopen("http://127.0.0.1:5000/health/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server is not ready after 5 s")


def run(shell, command):
    shell.stdin.write(f"{command}\nprintf '\\n%s\\n' {END}\n")
    shell.stdin.flush()
    lines = []
    for line in shell.stdout:
        if line.strip() == END:
            return lines
        lines.append(line.rstrip("\n"))
    sys.exit(f"the shell ended in: {command}")


def main():
    binary, readme = sys.argv[1:]
    server = subprocess.Popen([binary], stderr=subprocess.DEVNULL)
    shell = subprocess.Popen(
        ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    failed = count = 0
    try:
        until_ready()
        for command, expected in commands(open(readme, encoding="utf-8").read()):
            count += 1
            actual = run(shell, command)
            expected, actual = normal(expected), normal(actual)
            if matches(expected, actual):
                continue
            failed += 1
            print(f"--- {command}")
            print("\n".join(difflib.unified_diff(expected, actual, "README", "what came back", lineterm="")))
    finally:
        shell.kill()
        server.terminate()
        server.wait()
    print(f"{count - failed} commands of the README answer as shown, {failed} do not")
    sys.exit(failed > 0 or count == 0)


if __name__ == "__main__":
    main()
