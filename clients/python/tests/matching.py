"""The patterns of the conformance scenarios; clients/conformance/README.md says what each one means."""

from __future__ import annotations

import re
from typing import Any

Json = Any
ABSENT = object()


class Mismatch(Exception):
    """The actual value does not match the pattern."""

    def __init__(self, path: str, pattern: Json, actual: Json) -> None:
        shown = "nothing" if actual is ABSENT else repr(actual)
        super().__init__(f"at {path or 'the top'}: expected {pattern!r}, got {shown}")


def resolve(value: Json, variables: dict[str, Json]) -> Json:
    """``value`` with variables substituted."""
    if isinstance(value, dict):
        if "$times" in value:
            repeated = resolve(value.get("$text", [value.get("$list")]), variables)
            return repeated * value["$times"]
        return {resolve(key, variables): resolve(entry, variables) for key, entry in value.items()}
    if isinstance(value, list):
        return [resolve(entry, variables) for entry in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\$\{(\w+)\}", value)
    if whole:
        return variables[whole[1]]
    return re.sub(r"\$\{(\w+)\}", lambda found: text(variables[found[1]]), value)


def text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int)):
        raise ValueError(f"{value!r} is no scalar")
    return str(value)


def is_missing(value: Json) -> bool:
    return value is ABSENT or value is None or value == [] or (is_scalar(value) and text(value) in ("", "0", "false"))


def is_scalar(value: Json) -> bool:
    return isinstance(value, (str, int, bool))


def match(pattern: Json, actual: Json, saved: dict[str, Json], path: str = "") -> None:
    """Raises :class:`Mismatch`; values that the pattern saves go into ``saved``."""
    if isinstance(pattern, dict) and any(key.startswith("$") for key in pattern):
        matchers = {key: value for key, value in pattern.items() if key.startswith("$")}
        rest = {key: value for key, value in pattern.items() if not key.startswith("$")}
        for name, argument in matchers.items():
            if not MATCHERS[name](argument, actual, saved, path):
                raise Mismatch(path, {name: argument}, actual)
        if rest:
            match(rest, actual, saved, path)
    elif isinstance(pattern, dict):
        if not isinstance(actual, dict):
            raise Mismatch(path, pattern, actual)
        for key, expected in pattern.items():
            match(expected, actual.get(key, ABSENT), saved, f"{path}.{key}")
    elif is_missing(pattern):
        if not is_missing(actual):
            raise Mismatch(path, pattern, actual)
    elif isinstance(pattern, list):
        if not isinstance(actual, list) or len(actual) != len(pattern):
            raise Mismatch(path, pattern, actual)
        for index, (expected, entry) in enumerate(zip(pattern, actual)):
            match(expected, entry, saved, f"{path}[{index}]")
    elif not is_scalar(actual) or text(actual) != text(pattern):
        raise Mismatch(path, pattern, actual)


def matches(pattern: Json, actual: Json, saved: dict[str, Json], path: str) -> bool:
    try:
        match(pattern, actual, saved, path)
    except Mismatch:
        return False
    return True


def equal(one: Json, other: Json) -> bool:
    if is_missing(one) or is_missing(other):
        return is_missing(one) and is_missing(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(equal(one.get(key, ABSENT), other.get(key, ABSENT)) for key in {**one, **other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other))
    return is_scalar(one) and is_scalar(other) and text(one) == text(other)


def number(value: Json) -> int:
    return 0 if is_missing(value) else int(value)


def entries(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def save(name: str, actual: Json, saved: dict[str, Json], _path: str) -> bool:
    if is_missing(actual):
        return False
    saved[name] = actual
    return True


def is_(pattern: Json, actual: Json, saved: dict[str, Json], path: str) -> bool:
    match(pattern, actual, saved, path)
    return True


def is_list(value: Json) -> bool:
    return is_missing(value) or isinstance(value, list)


def each(pattern: Json, actual: Json, saved: dict[str, Json], path: str) -> bool:
    if not is_list(actual):
        return False
    for index, entry in enumerate(entries(actual)):
        match(pattern, entry, saved, f"{path}[{index}]")
    return True


def growing(_: Json, actual: Json, _saved: dict[str, Json], _path: str) -> bool:
    if not is_list(actual):
        return False
    numbers = [int(entry) for entry in entries(actual)]
    return all(a < b for a, b in zip(numbers, numbers[1:]))


MATCHERS = {
    "$present": lambda _, actual, *__: not is_missing(actual),
    "$absent": lambda _, actual, *__: is_missing(actual),
    "$save": save,
    "$is": is_,
    "$equals": lambda value, actual, *_: equal(value, actual),
    "$not": lambda pattern, actual, saved, path: not is_missing(actual) and not matches(pattern, actual, saved, path),
    "$matches": lambda regex, actual, *_: isinstance(actual, str) and re.fullmatch(regex, actual) is not None,
    "$gt": lambda value, actual, *_: number(actual) > int(value),
    "$ge": lambda value, actual, *_: number(actual) >= int(value),
    "$le": lambda value, actual, *_: number(actual) <= int(value),
    "$length": lambda length, actual, *_: is_list(actual) and len(entries(actual)) == length,
    "$contains": lambda pattern, actual, saved, path: any(matches(pattern, e, saved, path) for e in entries(actual)),
    "$each": each,
    "$growing": growing,
}
