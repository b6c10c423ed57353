"""How often the vault is asked, counted in its own audit log: what keeps saves and syncs quick however much there is.

A save: 2 calls, up to 4 when it begins a new document. A sync: documents + ⌈data keys / 400⌉ + 1. Nothing new: none.
Logins are not counted. The worst case is tried: every value was saved alone and has a data key of its own.
"""

import math
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from atoms.models import Environment
from extensions.actions import save_extensions
from extensions.listing import Listing
from extensions.models import Connection, EnvironmentManifest, ExtensionValue, Field, entry
from extensions.plan import FieldChange
from extensions.secret import Secret
from kmscore.sealed.manifest import Manifest
from kmscore.vaultclient.client import BATCH_ITEMS, chunks
from operations.work import sweep
from tests.conftest import Cast, Stage, set_stage
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from tests.raft import RaftVault, raft_vault
from tests.vaults.keys.rotations import recipient_of
from vaults.hosted import calls
from vaults.hosted.sealing import SaveKey
from vaults.hosted.sessions import drop_tokens
from vaults.models import DOCUMENT_ENTRIES, DataKey, Recipient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(scope="module")
def raft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaftVault]:
    with raft_vault(tmp_path_factory.mktemp("raft")) as vault:
        yield vault


@pytest.fixture
def scene(raft: RaftVault, cast: Cast, live_server: Any, settings: Any, tmp_path: Path) -> Iterator[Container]:
    """An enrolled container, with this process playing web and worker."""
    settings.VAULT_ADDR = settings.VAULT_PUBLIC_ADDR = raft.address
    settings.CREDENTIALS = str(raft.credentials / "all")
    drop_tokens()
    stage = set_stage(cast)
    container = Container(LivePortal(live_server.url, raft.address, tmp_path, {}, stage=stage), tmp_path / "container")
    with ThreadPoolExecutor(1) as pool:
        enrolling = pool.submit(container.enrol)
        while not enrolling.done():
            sweep()
    enrolling.result()
    yield container
    drop_tokens()


@contextmanager
def counted(vault: RaftVault, paths_seen: list[str]) -> Iterator[None]:
    """Collects the paths that were asked for inside the block, logins left out."""
    before = vault.audit_log.stat().st_size
    yield
    paths = [answer["request"]["path"] for answer in vault.audited(before)]
    paths_seen.extend(path for path in paths if not path.endswith("/login"))


def fill(stage: Stage, count: int) -> list[Field]:
    """What `count` saves of one value each leave behind: really wrapped keys, really sealed values, the last manifest."""
    environment, now = stage.production, timezone.now()
    connection = Connection.objects.create(account=stage.account, name="Bulk")
    fields = [
        Field(connection=connection, key=f"f{n}", label=f"F{n}", encrypted=True, position=n) for n in range(count)
    ]
    Field.objects.bulk_create(field.signed() for field in fields)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: calls.new_data_key(recipient_of(environment)), range(count)))
    ids = [str(uuid.uuid4()) for _ in made]
    for document, numbers in enumerate(chunks(range(count), DOCUMENT_ENTRIES)):
        for part in chunks(numbers):
            calls.store_wrapped_keys(recipient_of(environment), document, {ids[n]: made[n].wrapped for n in part})
    keys = [
        SaveKey(ids[n], str(stage.account.pk), environment.pk, n // DOCUMENT_ENTRIES, key.key_version, key.plaintext)
        for n, key in enumerate(made)
    ]
    DataKey.objects.bulk_create(
        DataKey(id=key.id, recipient_id=key.recipient, document=key.document, key_version=key.key_version)
        for key in keys
    )
    Recipient.objects.filter(pk=environment.pk).update(data_keys_made=count)
    ExtensionValue.objects.bulk_create(
        ExtensionValue(
            environment=environment,
            field=field,
            form="sealed",
            revision=revision,
            sealed=key.seal_value(field.path, revision, f"value of {field.key}"),
            data_key_id=key.id,
            set_at=now,
        )
        for revision, (field, key) in enumerate(zip(fields, keys, strict=True), start=1)
    )
    listed = [
        entry(field.path, "Bulk", "sealed", True, number, "", key.id)
        for number, (field, key) in enumerate(zip(fields, keys, strict=True), start=1)
    ]
    sealed = keys[-1].seal_manifest(Manifest(str(environment.pk), count, tuple(listed)))
    rows = {row.field.path: row.listed for row in ExtensionValue.objects.select_related("field")}
    EnvironmentManifest.objects.create(
        environment=environment, revision=count, listed=Listing(rows).encode(), data_key_id=keys[-1].id, sealed=sealed
    )
    Environment.objects.filter(pk=environment.pk).update(extensions_revision=count, extensions_changed_at=now)
    return fields


def save(stage: Stage, *changes: FieldChange) -> None:
    stage.production.refresh_from_db()
    revision = stage.production.extensions_revision
    save_extensions(stage.production, changes, expected_revision=revision, actor=stage.alice)


def asked_of(sealed: Any) -> tuple[int, int]:
    """(documents, data keys) that these values and the manifest need."""
    keys = set(sealed.values_list("data_key_id", flat=True)) | {EnvironmentManifest.objects.get().data_key_id}
    return len(set(DataKey.objects.filter(pk__in=keys).values_list("document", flat=True))), len(keys)


@pytest.mark.parametrize("count", [1, 10, 499, 500, 1_000, 10_000])
def test_calls_do_not_grow_with_what_is_held(scene: Container, raft: RaftVault, count: int) -> None:
    stage = scene.stage
    fields = fill(stage, count)
    synchroniser = scene.synchroniser()

    first: list[str] = []
    with counted(raft, first):
        assert synchroniser.sync().result == "updated"
    documents = math.ceil(count / DOCUMENT_ENTRIES)
    assert len(first) == documents + math.ceil(count / BATCH_ITEMS) + 1, first
    held = scene.values()
    assert {held[f"Bulk/{field.key}"] == f"value of {field.key}" for field in fields} == {True}

    both = FieldChange(fields[-1], "secret", Secret("a third")), FieldChange(fields[0], "secret", Secret("x"))
    for made, changes in ((count, [FieldChange(fields[0], "secret", Secret("another"))]), (count + 1, both)):
        saving: list[str] = []
        with counted(raft, saving):
            save(stage, *changes)
        assert len(saving) in ((2,) if made % DOCUMENT_ENTRIES else (3, 4)), saving

    later: list[str] = []
    with counted(raft, later):
        assert synchroniser.sync().result == "updated"
    assert len(later) == 3, later  # one document, one batch, one new at-rest key
    assert scene.values()["Bulk/f0"] == "x"

    fresh = Container(scene.portal, scene.directory)
    fresh.home.store.unlink()
    everything: list[str] = []
    with counted(raft, everything):
        fresh.sync()
    documents, keys = asked_of(ExtensionValue.objects.filter(form="sealed"))
    assert len(everything) == documents + math.ceil(keys / BATCH_ITEMS) + 1, everything


def test_nothing_changed_asks_nobody(scene: Container, raft: RaftVault) -> None:
    field = fill(scene.stage, 1)[0]
    save(scene.stage, FieldChange(field, "secret", Secret("one")))
    synchroniser = scene.synchroniser()
    synchroniser.sync()
    before = raft.audit_log.stat().st_size
    assert synchroniser.sync().result == "unchanged"
    save(scene.stage)
    assert raft.audit_log.stat().st_size == before
