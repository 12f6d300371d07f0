"""A real Apache Kafka: one node in KRaft mode, from Maven, on loopback ports of its own."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.services.obtain import CACHE, Unavailable, free_ports, locked, unavailable, wait_until

VERSION = "4.0.0"
OBTAIN_WITHIN = 300.0

_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>heliograph.services</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>2.24.3</version></dependency>
  </dependencies>
</project>
"""

_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=8388608
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """A running broker. `address`: host:port."""

    address: str
    process: subprocess.Popen[bytes]
    folder: Path

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def obtain() -> Path:
    """Returns the folder with the jars: from the cache, or fetched from Maven. Raises Unavailable."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None:
        raise Unavailable("Apache Kafka needs java")
    with locked(f"kafka-{VERSION}") as home:
        if not home.is_dir():
            if maven is None:
                raise Unavailable("Apache Kafka needs mvn to be obtained")
            _download(maven, home)
    return home


def _download(maven: str, home: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        Path(folder, "pom.xml").write_text(_POM, encoding="utf-8")
        command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        try:
            done = subprocess.run(
                command, cwd=folder, check=False, timeout=OBTAIN_WITHIN, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"Maven did not fetch Apache Kafka within {OBTAIN_WITHIN:.0f} s") from None
        if done.returncode:
            raise Unavailable(f"mvn could not obtain Apache Kafka: {done.stdout[-300:]}")
        Path(folder, "jars").rename(home)


def java(program: str, *arguments: str, memory: str = "256m") -> list[str]:
    """Builds the command line that runs a program of Apache Kafka, such as `kafka.Kafka`."""
    # A test is over before the optimizing compiler repays its work.
    options = (f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return ["java", *options, "-cp", f"{obtain()}/*", program, *arguments]


def start(properties: str = "") -> Kafka:
    """Starts a broker on free ports, with further lines of `properties`. Raises Unavailable."""
    obtain()
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(prefix="heliograph-kafka-"))
        broker = _start_in(folder, properties)
        if broker is not None:
            return broker
    raise AssertionError("Apache Kafka did not start in three attempts; its output is printed above")


def _start_in(folder: Path, properties: str) -> Kafka | None:
    port, controller = free_ports(2)
    file = folder / "server.properties"
    text = _PROPERTIES.format(port=port, controller=controller, folder=folder) + properties.format(
        port=port, controller=controller
    )
    file.write_text(text, encoding="utf-8")
    cluster = uuid.uuid4().hex[:22]
    arguments = ["format", "-t", cluster, "-c", str(file), *_scram(properties)]
    formatted = subprocess.run(
        java("kafka.tools.StorageTool", *arguments), check=False, capture_output=True, text=True, timeout=120
    )
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    output = folder / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            java("kafka.Kafka", str(file), memory="512m"), stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    broker = Kafka(f"127.0.0.1:{port}", process, folder)
    if wait_until(lambda: _listens(port), process):
        return broker
    sys.stderr.write(output.read_text(errors="replace")[-3000:])
    broker.stop()
    return None


def _scram(properties: str) -> list[str]:
    """Builds the arguments with which the formatter of the storage creates a user for SCRAM."""
    if "SCRAM-SHA-256" not in properties:
        return []
    return ["--add-scram", "SCRAM-SHA-256=[name=user,password=secret]"]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@cache
def _shared() -> Kafka:
    broker = start()
    atexit.register(broker.stop)
    return broker


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    """Returns the broker of this process, which all tests share; each test uses a namespace of its own."""
    try:
        return _shared()
    except Unavailable as error:
        unavailable(error)
        raise


@contextmanager
def running(properties: str = "") -> Generator[Kafka]:
    """Runs a broker for one test, with further lines of `properties`."""
    broker = start(properties)
    try:
        yield broker
    finally:
        broker.stop()
