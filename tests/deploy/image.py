"""The Dockerfile: hadolint, then the steps of its builder stage, done here with a cargo that plans and does not build."""

import json
import os
import re
import shlex
import shutil
import tomllib

import programs
from programs import ROOT, Node, effective_config, is_pinned, check_that, run, tool

CARGO = """#!/usr/bin/env bash
# Cargo itself reads the manifest, the lock file and the targets, and reports which units it would build.
set -euo pipefail
[ "$1" = build ] || {{ echo "only cargo build is expected, not $*" >&2; exit 1; }}
RUSTC_BOOTSTRAP=1 {cargo} "$@" --target-dir "$PLANS/target" -Z unstable-options --unit-graph > "$PLANS/$(ls "$PLANS" | wc -l).json"
mkdir -p target/release
cp {binary} target/release/ordersystem
"""


def instructions():
    """(stage, instruction, argument) of every instruction; stages are counted from 0, and -1 is before the first."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    stage = -1
    for line in filter(None, map(str.strip, text.splitlines())):
        name, argument = line.split(None, 1)
        stage += name == "FROM"
        yield stage, name, argument.strip()


def settings():
    """The environment that the image sets."""
    last = max(stage for stage, _, _ in instructions())
    pairs = " ".join(argument for stage, name, argument in instructions() if (stage, name) == (last, "ENV"))
    return dict(pair.split("=", 1) for pair in shlex.split(pairs))


def hadolint():
    run(tool("hadolint"), "Dockerfile")


def allowed_in_context():
    """The files that .dockerignore lets into the build."""
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    check_that("*" in rules, ".dockerignore: everything is left out unless named")
    return {rule[1:] for rule in rules if rule.startswith("!")}


def builder_stage(folder):
    """Runs the first stage in a folder; returns the units of each call of cargo."""
    build, plans, bin_folder = folder / "build", folder / "plans", folder / "bin"
    for made in (build, plans, bin_folder):
        made.mkdir(parents=True)
    shim = bin_folder / "cargo"
    shim.write_text(CARGO.format(cargo=shlex.quote(shutil.which("cargo")), binary=shlex.quote(str(programs.BINARY))))
    shim.chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PLANS": str(plans)}
    allowed = allowed_in_context()
    for stage, name, argument in instructions():
        if stage != 0:
            continue
        if name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                check_that(source in allowed, f".dockerignore leaves out {source}")
                check_that((ROOT / source).exists(), f"the Dockerfile copies {source}, which is not there")
                destination = build / target
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
                copy(ROOT / source, destination / source if target == "./" else destination, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))
        elif name == "RUN":
            check_that("--locked" in argument or "cargo" not in argument, f"cargo is to keep to the lock file: {argument}")
            run("sh", "-ec", argument.replace("/image", str(folder / "image")), cwd=build, env=env)
    sources_are_complete(build)
    check_that((folder / "image/ordersystem").exists(), "the builder stage ends with the binary in /image")
    check_that((folder / "image/var/lib/ordersystem").is_dir(), "the builder stage ends with the data folder in /image")
    return [json.loads(plan.read_text())["units"] for plan in sorted(plans.glob("*.json"))]


def sources_are_complete(build):
    """A plan does not read sources: the files that the build script and the program compile in must have been copied."""
    for path in re.findall(r"rerun-if-changed=([\w./-]+)", (build / "build.rs").read_text()):
        check_that((build / path).exists(), f"build.rs needs {path}, which is not copied")
    for file in [*(ROOT / "src").rglob("*"), *(ROOT / "proto").rglob("*")]:
        copied = build / file.relative_to(ROOT)
        check_that(file.is_dir() or copied.is_file() and copied.read_bytes() == file.read_bytes(), f"{copied} is not the file that is to be built")
    for file in (build / "src").rglob("*.rs"):
        if file.name != "tests.rs":
            for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', file.read_text().split("#[cfg(test)]")[0]):
                check_that((file.parent / path).exists(), f"{file.relative_to(build)} includes {path}, which is not copied")


def dependencies(units):
    """The units built for the dependencies, with everything that determines whether they are rebuilt."""
    return sorted(
        json.dumps([unit["pkg_id"], unit["mode"], unit["features"], unit["profile"], unit["target"]["kind"]])
        for unit in units if "registry" in unit["pkg_id"]
    )


def cached_layer(folder):
    dependencies_only, real = builder_stage(folder)
    check_that(len(dependencies(real)) > 100, "the plan of the service has its dependencies")
    check_that(dependencies(dependencies_only) == dependencies(real), "the first layer builds the very dependencies that the service needs")
    names = {unit["target"]["name"] for unit in real if "registry" not in unit["pkg_id"]}
    check_that({"ordersystem", "build-script-build"} <= names, f"the service is built with its build script: {names}")
    check_that(all(unit["profile"]["name"] == "release" for unit in real), "all in the release profile")


def last_stage(folder):
    last = max(stage for stage, _, _ in instructions())
    argument_of = {name: argument for stage, name, argument in instructions() if stage == last}
    arguments = dict(arg.split("=", 1) for stage, name, arg in instructions() if name == "ARG" and "=" in arg)
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    for name in ("RUST_IMAGE", "RUNTIME_IMAGE"):
        check_that(is_pinned(arguments[name]), f"{name} is pinned: {arguments[name]}")
        check_that("@sha256:" in arguments[name], f"{name} is pinned by its digest")
    check_that("distroless" in arguments["RUNTIME_IMAGE"], "the image has no shell")
    rust = tuple(map(int, re.search(r":(\d+)\.(\d+)", arguments["RUST_IMAGE"]).groups()))
    check_that(rust >= tuple(map(int, manifest["rust-version"].split("."))), "the image's Rust is not older than rust-version")
    check_that(arguments["VERSION"] == manifest["version"], "the image's version is the crate's")
    check_that(re.fullmatch(r"[1-9]\d*:[1-9]\d*", argument_of["USER"]), f"a user by number that is not root: {argument_of['USER']}")
    check_that(argument_of["STOPSIGNAL"] == "SIGTERM", "SIGTERM drains")
    check_that(json.loads(argument_of["VOLUME"]) == [settings()["ORDERSYSTEM_DATA_DIR"]], "the volume is the data folder")
    check_that(any(n == "COPY" and f"--chown={argument_of['USER']}" in a and a.endswith(settings()["ORDERSYSTEM_DATA_DIR"])
             for _, n, a in instructions()), "the data folder is the user's own")
    check_that(argument_of["EXPOSE"] == settings()["ORDERSYSTEM_PORT"], "the exposed port is the service's")
    check_that(settings()["ORDERSYSTEM_BIND"] == "0.0.0.0", "the service listens outside of its container")
    check_that(json.loads(argument_of["ENTRYPOINT"]) == ["ordersystem"], "the entrypoint is the program")
    effective_config(settings())
    probe = json.loads(argument_of["HEALTHCHECK"].split(" CMD ", 1)[1])
    # As in the container, with only the image's settings, on a free port.
    with Node(settings(), folder / "data") as node:
        node.until_ready()
        command = [programs.BINARY, *probe[1:]]
        check_that(probe[0] == "ordersystem" and run(*command, env=node.env, ok=False).returncode == 0, "a node that serves is healthy")
        check_that(node.stop() == 0, "SIGTERM ends it in order")
        check_that(run(*command, env=node.env, ok=False).returncode == 1, "no node is unhealthy: 1 and nothing else, as Docker wants it")


def checks(folder):
    return [
        ("hadolint finds nothing", hadolint),
        ("the builder stage works, and its first layer holds all dependencies", lambda: cached_layer(folder / "image")),
        ("the image runs the service without privileges, and checks its health", lambda: last_stage(folder / "image-node")),
    ]
