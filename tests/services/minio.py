"""A real MinIO, built from its sources as a Go module, on a loopback port of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.services.obtain import Unavailable, free_ports, locked, unavailable
from tests.services.s3 import ACCESS_KEY, SECRET_KEY, Service, start

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
OBTAIN_WITHIN = 900.0


def obtain() -> Path:
    """Returns the path of the program: from the cache, or built, which takes some minutes. Raises Unavailable."""
    with locked(f"minio-{VERSION}") as folder:
        program = folder / "minio"
        if program.is_file():
            return program
        go = shutil.which("go")
        if go is None:
            raise Unavailable("MinIO needs go to be built")
        _build(go, folder)
    return program


def _build(go: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            ["nice", go, "install", f"github.com/minio/minio@{VERSION}"],
            env={**os.environ, "GOBIN": str(folder)},
            cwd=folder,
            check=False,
            timeout=OBTAIN_WITHIN,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"MinIO was not built within {OBTAIN_WITHIN:.0f} s") from None
    if done.returncode:
        raise Unavailable(f"MinIO could not be built: {done.stderr[-300:]}")


def run(**settings: str) -> Service:
    """Starts a server with `settings` as environment variables. Raises Unavailable."""
    program = obtain()

    def command(folder: Path) -> tuple[Sequence[str], dict[str, str], int]:
        (port,) = free_ports(1)
        address = ["--address", f"127.0.0.1:{port}"]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            **settings,
        }
        return [str(program), "server", "--quiet", *address, str(folder / "data")], environment, port

    return start("minio", command)


@cache
def _shared() -> Service:
    service = run()
    atexit.register(service.stop)
    return service


@pytest.fixture(scope="session")
def minio() -> Service:
    """Returns the server of this process, which all tests share; each test uses a bucket of its own."""
    try:
        return _shared()
    except Unavailable as error:
        unavailable(error)
        raise
