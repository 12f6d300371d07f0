"""An S3 server for tests: the common part of the services SeaweedFS and MinIO."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.obtain import wait_until

ACCESS_KEY, SECRET_KEY = "heliograph-tests", "not-a-secret-0123456789"
READER_KEY = "heliograph-reader"
"""An access key that may only read and list, with the same secret. Only SeaweedFS has it."""
ENVIRONMENT = {"S3_TESTS_KEY": ACCESS_KEY, "S3_TESTS_SECRET": SECRET_KEY}
"""Environment variables to which the URLs of stores refer for secrets."""
_REFERENCES = {"access_key": "env:S3_TESTS_KEY", "secret_key": "env:S3_TESTS_SECRET"}

Command = Callable[[Path], tuple[Sequence[str], dict[str, str], int]]
"""Returns the command line, the environment and the S3 port of a server with its data in a folder. Each call chooses
other ports."""


@dataclass(frozen=True)
class Service:
    """A running server. `endpoint`: `http://127.0.0.1:port`."""

    endpoint: str
    process: subprocess.Popen[bytes]
    folder: Path
    buckets: Iterator[int]

    def bucket(self) -> str:
        """Creates a bucket and returns its name."""
        name = f"bucket-{next(self.buckets)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """Creates a plain client of boto3."""
        return _client(self.endpoint)

    def url(self, bucket: str, prefix: str = "", *, endpoint: str = "", **more: str) -> str:
        """Builds the URL of a store in a bucket. The URL refers to secrets in ENVIRONMENT."""
        query = {"endpoint": endpoint or self.endpoint, **_REFERENCES, **more}
        return f"s3://{bucket}/{prefix}?{urlencode(query)}"

    def stop(self) -> None:
        """Ends the server and deletes its data."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(name: str, command: Command) -> Service:
    """Starts a server, in up to three attempts, since another process may take its port."""
    printed = ""
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(prefix=f"heliograph-{name}-"))
        words, environment, port = command(folder)
        output = folder / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                words, env=environment, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        service = Service(f"http://127.0.0.1:{port}", process, folder, count())
        if wait_until(partial(_serves, service.endpoint), process):
            return service
        printed = output.read_text(errors="replace")[-3000:]
        service.stop()
    raise AssertionError(f"{name} did not start in three attempts; its output: {printed}")


def _serves(endpoint: str) -> bool:
    """Returns True if the server stores objects; some servers listen before they can."""
    client = _client(endpoint)
    try:
        if not client.list_buckets()["Buckets"]:
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (ClientError, BotoCoreError):
        return False
    finally:
        client.close()
    return True


def _client(endpoint: str) -> Any:
    session: Any = boto3.session.Session()
    return session.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
