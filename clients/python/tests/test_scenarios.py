"""The scenarios follow their README, and cover the whole API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from driver import SCENARIOS, SERVICES, load
from matching import ABSENT, MATCHERS, Json, Mismatch, match
from server import ROOT

FILES = {path.name: load(path) for path in sorted(SCENARIOS.glob("*.yaml"))}
KEYS = {
    "call": {"request", "deadline_ms", "expect", "error"},
    "send": {"request", "deadline_ms", "start_after_ms", "expect", "error"},
    "execute": {"replies"},
    "stream": {"as", "request", "deadline_ms"},
    "follow": {"as", "request"},
    "take": {"expect"},
    "end": {"error"},
    "cancel": set(),
    "server": set(),
    "token": set(),
}
ERROR_KEYS = {
    *("code", "message", "reason", "domain", "metadata", "fieldViolations", "preconditions", "retryDelayMs"),
}
# Errors that no client can provoke with the generated stubs, or not reliably.
UNREACHABLE = {
    *("CONTENTION", "OVERLOADED", "STORE_FULL", "UNAVAILABLE", "OUTCOME_UNKNOWN", "DATA_CORRUPT", "INTERNAL"),
    *("ROUTE_NOT_FOUND", "METHOD_NOT_ALLOWED", "IF_MATCH_FAILED", "REQUEST_TIMEOUT", "UNSUPPORTED_MEDIA_TYPE"),
    *("HOST_NOT_ALLOWED", "CROSS_SITE_REQUEST", "OPERATORS_ONLY", "HTTP_VERSION_NOT_SUPPORTED"),
    *("COMPRESSION_NOT_SUPPORTED", "NOT_FRESH_IN_TIME"),
    # Scenarios send no headers, and their callers have no limits; tests/api has them.
    *("METADATA_TOO_LARGE", "CALLER_LIMIT"),
    # Of programs that embed a node.
    "LOG_NOT_MANAGED",
    # Either the client's clock or the server's may be first.
    "DEADLINE_EXCEEDED",
}


def steps() -> Iterator[Json]:
    for file in FILES.values():
        for scenario in file["scenarios"]:
            yield from scenario["steps"]


def walk(value: Json) -> Iterator[Json]:
    yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(entry)


def test_files_use_only_what_json_has() -> None:
    for name, file in FILES.items():
        for value in walk(file):
            assert isinstance(value, (dict, list, str, int)), f"{name}: {value!r}"
            assert not isinstance(value, dict) or all(isinstance(key, str) for key in value), f"{name}: {value!r}"
        assert not re.search(r"(: |- |\[)[&*]\w", (SCENARIOS / name).read_text()), f"{name} has anchors"


def test_every_step_has_only_the_keys_of_its_kind() -> None:
    for step in steps():
        kind = next(kind for kind in KEYS if kind in step)
        assert set(step) <= {kind, *KEYS[kind]}, step
        assert set(step.get("error", {})) <= ERROR_KEYS, step
        assert not {"expect", "error"} <= set(step), step


def test_every_matcher_is_one_of_the_readme() -> None:
    documented = set(re.findall(r"(\$[a-z]+):", (SCENARIOS / "README.md").read_text()))
    used = {key for step in steps() for value in walk(step) if isinstance(value, dict) for key in value if key.startswith("$")}
    assert used - {"$text", "$list", "$times"} <= set(MATCHERS)
    assert set(MATCHERS) | {"$text", "$list", "$times"} == documented
    assert used == documented, "what is not used is not worth the drivers' code"


def test_names_are_unique() -> None:
    names = [scenario["name"] for file in FILES.values() for scenario in file["scenarios"]]
    assert len(names) == len(set(names))


def test_every_method_of_the_api_is_called() -> None:
    called = {step[kind] for step in steps() for kind in ("call", "stream") if kind in step}
    called |= {"catga.orders.v1.OrderCommandService/ExecuteCommands"} if any("execute" in step for step in steps()) else set()
    methods = set()
    for proto in (ROOT / "proto" / "catga").rglob("*.proto"):
        text = proto.read_text()
        package = re.search(r"^package (.*);", text, re.M)
        assert package
        for service, body in re.findall(r"^service (\w+) {(.*?)^}", text, re.M | re.S):
            methods |= {f"{package[1]}.{service}/{method}" for method in re.findall(r"rpc (\w+)", body)}
    assert len(methods) > 10
    assert {name for name in called if name.startswith("catga.")} == methods
    assert {name.split("/")[0] for name in methods} | {"grpc.health.v1.Health"} == set(SERVICES)


def test_every_reason_that_a_client_can_bring_about_is_met() -> None:
    table = (ROOT / "src" / "server" / "error" / "reason.rs").read_text()
    known = set(re.findall(r'\("([A-Z_]+)", Code::', table))
    met = {value["reason"] for step in steps() for value in walk(step) if isinstance(value, dict) and "reason" in value and isinstance(value["reason"], str)}
    assert len(known) > 20
    assert met & known == known - UNREACHABLE


CASES = load(SCENARIOS / "matching" / "cases.yaml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["pattern"]))
def test_a_pattern_matches_what_it_should_and_refuses_the_rest(case: Json) -> None:
    for value in case["matches"]:
        match(case["pattern"], ABSENT if value == "$nothing" else value, {})
    for value in case["refuses"]:
        with pytest.raises(Mismatch):
            match(case["pattern"], ABSENT if value == "$nothing" else value, {})
            pytest.fail(f"{case['pattern']} must not match {value!r}")
