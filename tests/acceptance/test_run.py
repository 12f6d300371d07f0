"""`heliograph run` in processes of its own: sharing, taking over, draining, waiting, metrics and health."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from producers.stream import generate
from schemas.delivery import read_delivery
from schemas.record import NewRecord
from tests.acceptance.product import Hook, Product, until

NOW = 1_700_000_000_000
QUEUE = """
[[subscription]]
name = "everything"
[[subscription.target]]
id = "queue"
kind = "topic"
topic = "queue"
"""


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with ExitStack() as started:
        yield Product(tmp_path / "home", started=started)


def stop(process: subprocess.Popen[bytes], number: int) -> int:
    """Sends a signal; returns the exit status."""
    process.send_signal(number)
    return process.wait(15)


def wait_for_metrics(product: Product) -> str:
    """Waits until a run serves its metrics; returns the URL."""
    (url, *_) = until(lambda: re.findall(r"http://127.0.0.1:\d+", product.log()))
    return str(url)


def lines(values: list[bytes]) -> bytes:
    return b"\n".join(values)


def test_a_second_run_shares_the_partitions_and_takes_over_those_of_a_killed_one(product: Product) -> None:
    product.apply(QUEUE)
    first, second = product.start("run"), product.start("run")
    until(lambda: product.members("archiver") == 2)
    values = list(generate(7, 300, NOW))
    product.do("emit", "--file", "-", feed=lines(values[:150]))
    first.kill()
    first.wait()
    product.do("emit", "--file", "-", feed=lines(values[150:]))
    until(lambda: product.count("verdicts") >= 300)
    assert stop(second, signal.SIGTERM) == 0
    product.until_idle()
    queued = {row["headers"]["delivery"]: row["value"].encode() for row in product.rows("tail", "queue")}
    assert Counter(queued.values()) == Counter(values)
    assert product.do("archive", "verify").startswith("archive verified")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_makes_a_run_drain_and_commit(product: Product, number: int) -> None:
    product.apply(QUEUE)
    running = product.start("run")
    product.do("emit", "--file", "-", feed=lines(list(generate(1, 50, NOW))))
    until(lambda: product.count("verdicts") == 50)
    assert stop(running, number) == 0
    lag = product.rows("lag")
    assert {row["lag"] for row in lag if row["group"] in {"router", "deliverer"}} == {0}
    left = sum(row["lag"] for row in lag if (row["group"], row["topic"]) == ("archiver", "verdicts"))
    assert len(product.rows("archive", "read", "verdicts")) == 50 - left
    product.until_idle()
    assert len(product.rows("archive", "read", "verdicts")) == 50


def test_a_delivery_that_waits_for_its_retry_is_delivered_by_a_later_run(product: Product) -> None:
    with Hook() as hook:
        hook.statuses = {"/hook": 503}
        product.apply(
            f"""
            [[subscription]]
            name = "called"
            [[subscription.target]]
            id = "hook"
            kind = "callback"
            url = "{hook.url}/hook"
            retry = {{ tries = 9, first = 2, factor = 1, cap = 2, jitter = false }}
            """
        )
        product.emit()
        product.until_idle()
        (waiting,) = product.rows("deliveries", "list")
        assert (waiting["state"], waiting["tries"]) == ("waiting", 1)
        assert hook.count == 1
        hook.statuses = {}
        time.sleep(3)
        product.until_idle()
        (delivered,) = product.rows("deliveries", "list")
        assert (delivered["state"], delivered["tries"], delivered["delivery"]) == (
            "delivered",
            2,
            waiting["delivery"],
        )
        assert list(hook.bodies) == [waiting["delivery"]]


def test_a_hanging_target_delays_no_other(product: Product) -> None:
    with Hook() as slow, Hook() as quick:
        slow.hangs.set()
        product.apply(
            "".join(
                f"""
                [[subscription]]
                name = "to-{name}"
                [[subscription.target]]
                id = "{name}"
                kind = "callback"
                url = "{one.url}/hook"
                """
                for name, one in (("slow", slow), ("quick", quick))
            )
        )
        running = product.start("run")
        values = list(generate(3, 200, NOW))
        product.do("emit", "--file", "-", feed=lines(values))
        until(lambda: len(quick.bodies) == 200)
        assert slow.count > 0
        assert "delivered" not in {
            row["state"] for row in product.rows("deliveries", "list", "--target", "slow")
        }
        assert stop(running, signal.SIGTERM) == 0
        slow.hangs.clear()


def test_a_run_takes_up_changed_subscriptions_without_a_restart(product: Product) -> None:
    running = product.start("run")
    until(lambda: product.members("router") == 1)
    done = product.call("subscriptions", "apply", "-", feed=QUEUE.encode())
    assert done.returncode == 0
    assert b"warning" not in done.stderr
    product.emit()
    until(lambda: product.count("queue") == 1)
    product.do("subscriptions", "disable", "everything")
    product.emit()
    until(lambda: all(row["lag"] == 0 for row in product.rows("lag") if row["group"] == "router"))
    assert len(product.rows("tail", "queue")) == 1
    assert stop(running, signal.SIGTERM) == 0


def test_a_run_serves_metrics_and_health(product: Product) -> None:
    product.apply(QUEUE)
    running = product.start("run", "--metrics", "127.0.0.1:0")
    url = wait_for_metrics(product)
    until(lambda: _get(f"{url}/readyz") == (200, "ok\n"))
    product.emit()
    until(lambda: product.count("verdicts") == 1)
    assert _get(f"{url}/healthz") == (200, "ok\n")
    assert _get(f"{url}/nope")[0] == 404
    text = until(lambda: _with_lag(_get(f"{url}/metrics")[1]))
    for name in ("routed_total", "matched_total", "attempts_total", "attempt_seconds_count", "verdicts_total",
                 "in_flight", "loop_age_seconds"):  # fmt: skip
        assert re.search(rf"^heliograph_{name}{{", text, re.MULTILINE), name
    for role in ("router", "deliverer", "wheel", "archiver"):
        assert f'heliograph_lag{{role="{role}"}}' in text
    assert 'heliograph_appended{topic="events.ecs.instance"} 1.0' in text
    assert stop(running, signal.SIGTERM) == 0


def _with_lag(text: str) -> str:
    """Returns the metrics if they include those of the bus, which may be missing at first; else an empty text."""
    return text if "heliograph_appended{" in text else ""


def test_readyz_names_the_role_that_fails(product: Product) -> None:
    product.home.mkdir()
    (product.home / "archive").write_text("not a folder")
    running = product.start("run", "--metrics", "127.0.0.1:0")
    url = wait_for_metrics(product)
    until(lambda: "starting" not in _get(f"{url}/readyz")[1])
    status, text = _get(f"{url}/readyz")
    assert status == 503
    assert text.startswith("archiver: ")
    assert stop(running, signal.SIGTERM) == 1


def test_log_lines_are_json_and_never_hold_an_events_content(product: Product) -> None:
    product.apply(QUEUE)
    product.do("emit", "Instance:StateChange", "--resource", "i-noticeable", "--content", "state=Running")
    running = product.start("run")
    until(lambda: product.count("verdicts") == 1)
    assert stop(running, signal.SIGTERM) == 0
    logged = [json.loads(line) for line in product.log().splitlines()]
    assert {"role started", "role stopped", "segment stored"} <= {line["event"] for line in logged}
    assert "i-noticeable" not in product.log()


def test_records_of_a_foreign_producer_are_routed_or_rejected(product: Product) -> None:
    product.apply(QUEUE)
    (value,) = generate(1, 1, NOW)
    with closing(product.bus()) as bus:
        foreign = [value, b'{"level":"LOUD"}']
        bus.append([NewRecord("events.ecs.instance", one) for one in foreign])
    product.until_idle()
    (queued,) = product.rows("tail", "queue")
    assert queued["value"].encode() == value
    (rejected,) = product.rows("tail", "rejects")
    assert rejected["value"] == '{"level":"LOUD"}'
    assert rejected["headers"]["where"].startswith("router events.ecs.instance:")
    assert re.match(r"\w+: ", rejected["headers"]["reason"])


def test_a_home_is_backed_up_while_it_runs_and_restored_elsewhere(product: Product, tmp_path: Path) -> None:
    product.apply(QUEUE)
    running = product.start("run")
    until(lambda: product.members("router"))
    values = list(generate(2, 400, NOW))
    product.do("emit", "--file", "-", feed=lines(values[:300]))
    product.do("backup", str(tmp_path / "backup"))
    product.do("emit", "--file", "-", feed=lines(values[300:]))
    assert stop(running, signal.SIGTERM) == 0
    other = Product(tmp_path / "other")
    other.do("restore", str(tmp_path / "backup"))
    other.until_idle()
    assert Counter(row["value"].encode() for row in other.rows("tail", "queue")) == Counter(values[:300])
    assert other.do("archive", "verify").startswith("archive verified")
    archived = [row for row in other.rows("archive", "read") if row["topic"].startswith("events.")]
    assert len(archived) == 300


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_waiting_delivery_holds_the_events_bytes(product: Product) -> None:
    product.apply(QUEUE)
    product.emit()
    product.do("run", "router", "--until-idle")
    (event,) = product.rows("tail", "events.ecs.instance")
    with closing(product.bus()) as bus:
        records = [record for part in bus.extents("deliveries") for record in bus.read(part, 0).records]
    assert [read_delivery(record).event.decode() for record in records] == [event["value"]]
