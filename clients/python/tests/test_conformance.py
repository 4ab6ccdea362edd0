"""The scenarios that every client runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import MODES, SCENARIOS, File, load
from server import Redis

FILES = sorted(SCENARIOS.glob("*.yaml"))
ALL = [
    pytest.param(mode, path, s["steps"], id=f"{path.stem}: {s['name']}, {mode}")
    for mode in MODES
    for path in FILES
    for s in load(path)["scenarios"]
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, redis: Redis | None) -> Iterator[dict[tuple[str, Path], File]]:
    """The file that runs, with its server: the one before has ended."""
    folder = tmp_path_factory.mktemp("conformance")

    class OneAtATime(dict[tuple[str, Path], File]):
        def __missing__(self, key: tuple[str, Path]) -> File:
            for file in self.values():
                file.close()
            self.clear()
            mode, path = key
            self[key] = File(path, f"{path.stem}-{mode}", folder, redis)
            return self[key]

    running = OneAtATime()
    yield running
    for file in running.values():
        file.close()


@pytest.mark.parametrize(("mode", "path", "steps"), ALL)
def test_scenario(files: dict[tuple[str, Path], File], mode: str, path: Path, steps: list[object]) -> None:
    files[mode, path].run(steps, mode)
