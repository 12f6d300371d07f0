from pathlib import Path

import pytest

from heliograph.app.config import Config
from heliograph.app.deployment import Deployment
from heliograph.app.roles import roles
from heliograph.store.folder import FolderStore
from heliograph.store.memory import MemoryStore
from heliograph.store.probe import probe
from schemas.errors import StoreRefused


class Replacing(MemoryStore):
    """A store that ignores the condition of `put_new`."""

    def put_new(self, key: str, body: bytes) -> bool:
        self.put(key, body)
        return True


class Losing(MemoryStore):
    """A store that answers correctly, but stores the second body."""

    def put_new(self, key: str, body: bytes) -> bool:
        free = self.head(key) is None
        self.put(key, body)
        return free


@pytest.mark.parametrize("kind", [Replacing, Losing])
def test_the_probe_refuses_a_store_that_replaces_objects(kind: type[MemoryStore]) -> None:
    found = kind()
    with pytest.raises(StoreRefused, match="put_new replaces objects"):
        probe(found)
    assert list(found.list("")) == []


def test_the_probe_accepts_a_store_that_replaces_nothing() -> None:
    found = MemoryStore()
    probe(found)
    assert list(found.list("")) == []


def test_the_probe_leaves_no_file_in_a_folder(tmp_path: Path) -> None:
    found = FolderStore(tmp_path / "archive")
    probe(found)
    assert list(found.list("")) == []


def test_an_archiver_refuses_a_store_that_replaces_objects(tmp_path: Path) -> None:
    with Deployment(Config(home=tmp_path)) as deployment:
        build = roles(deployment, ["archiver"])["archiver"]
        build().close()
        deployment.archive = Replacing()
        with pytest.raises(StoreRefused, match="put_new replaces objects"):
            build()
