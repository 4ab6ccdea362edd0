"""The built package is complete."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_code_types_and_the_service_config(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["cp", "-R", str(CLIENT / "src"), str(CLIENT / "pyproject.toml"), str(CLIENT / "README.md"), *map(str, CLIENT.glob("LICENSE-*")), "."], cwd=_made(source), check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = set(wheel.namelist())
    for needed in (
        "ordersystem_client/py.typed",
        "ordersystem_client/service_config.json",
        "ordersystem_client/currencies.txt",
        "ordersystem_client/aio.py",
        "ordersystem_client/follow.py",
        "catga/py.typed",
        "catga/orders/v1/commands_pb2.py",
        "catga/orders/v1/commands_pb2.pyi",
        "catga/orders/v1/commands_pb2_grpc.pyi",
        "catga/system/v1/system_pb2_grpc.py",
    ):
        assert needed in names, needed
    info = next(name for name in names if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
    for licence in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert wheel.read(f"{info}licenses/{licence}") == (CLIENT.parents[1] / licence).read_bytes()
    metadata = wheel.read(f"{info}METADATA").decode()
    assert "Provides-Extra: health" in metadata
    assert "Provides-Extra: test" not in metadata


@pytest.mark.parametrize("name", ["service_config.json", "currencies.txt"])
def test_data_that_all_clients_share_is_the_same_here(name: str) -> None:
    assert (CLIENT / "src" / "ordersystem_client" / name).read_text() == (CLIENT.parent / name).read_text()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
