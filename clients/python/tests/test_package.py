"""The package that is built has everything that it needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_code_types_and_the_service_config(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["cp", "-R", str(CLIENT / "src"), str(CLIENT / "pyproject.toml"), str(CLIENT / "README.md"), "."], cwd=_made(source), check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    for needed in (
        "ordersystem_client/py.typed",
        "ordersystem_client/service_config.json",
        "ordersystem_client/follow.py",
        "catga/py.typed",
        "catga/orders/v1/commands_pb2.py",
        "catga/orders/v1/commands_pb2.pyi",
        "catga/orders/v1/commands_pb2_grpc.pyi",
        "catga/system/v1/system_pb2_grpc.py",
    ):
        assert needed in names, needed


def test_the_service_config_is_the_one_that_all_clients_share() -> None:
    shared = (CLIENT.parent / "service_config.json").read_text()
    assert (CLIENT / "src" / "ordersystem_client" / "service_config.json").read_text() == shared


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
