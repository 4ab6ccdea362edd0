"""The scenarios that every client runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import SCENARIOS, File, load
from server import Redis

FILES = sorted(SCENARIOS.glob("*.yaml"))
ALL = [pytest.param(path, s["steps"], id=f"{path.stem}: {s['name']}") for path in FILES for s in load(path)["scenarios"]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, redis: Redis | None) -> Iterator[dict[Path, File]]:
    """The file that runs, with its server: the one before has ended."""
    running: dict[Path, File] = {}
    folder = tmp_path_factory.mktemp("conformance")

    class OneAtATime(dict[Path, File]):
        def __missing__(self, path: Path) -> File:
            for file in self.values():
                file.close()
            self.clear()
            self[path] = File(path, folder, redis)
            return self[path]

    running = OneAtATime()
    yield running
    for file in running.values():
        file.close()


@pytest.mark.parametrize(("path", "steps"), ALL)
def test_scenario(files: dict[Path, File], path: Path, steps: list[object]) -> None:
    files[path].run(steps)
