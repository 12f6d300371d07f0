"""The official notifications, from files to a receiver and into the archive, byte for byte and once each."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from producers.examples import EXAMPLES as OUR_OWN
from tests.acceptance.product import EXAMPLES, Hook, Product, until

SOME_EVENT = next(one for one in OUR_OWN if b'"Instance:StateChange"' in one).replace(b"\n", b"") + b"\n"

HOOK = """
[[subscription]]
name = "everything"
[[subscription.target]]
id = "hook"
kind = "callback"
url = "{url}"
"""


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the official examples are not beside this checkout")
def test_the_official_examples_arrive_and_are_archived_byte_for_byte(tmp_path: Path) -> None:
    files = sorted(EXAMPLES.glob("*.json"))
    assert len(files) == 14
    wanted = Counter(path.read_bytes().strip() for path in files)
    product = Product(tmp_path / "home")
    with Hook() as hook:
        product.apply(HOOK.format(url=hook.url))
        product.do("emit", "--file", str(files[0]))
        product.do("emit", "--file", "-", feed=b"\n".join(path.read_bytes() for path in files[1:]))
        product.until_idle()
        assert Counter(arrival.body for arrival in hook.taken) == wanted
    archived = [row for row in product.rows("archive", "read") if row["topic"].startswith("events.")]
    assert Counter(row["value"].encode() for row in archived) == wanted
    product.do("archive", "verify")


def test_events_from_a_slow_pipe_do_not_wait_for_a_full_batch(tmp_path: Path) -> None:
    with ExitStack() as started:
        product = Product(tmp_path / "home", started=started)
        emitting = product.start("emit", "--file", "-", fed=True)
        assert emitting.stdin is not None
        for number in (1, 2):
            emitting.stdin.write(SOME_EVENT)
            emitting.stdin.flush()
            until(partial(_has, product, number))
        emitting.stdin.close()
        assert emitting.wait(30) == 0


def _has(product: Product, events: int) -> bool:
    return product.count("events.ecs.instance") == events
