"""What the tests of rotations look at: the vault's documents and keys, seen with its root token, and the sealed bytes."""

import hashlib
import re
from collections import Counter
from datetime import timedelta
from typing import Any

from django.utils import timezone

from atoms.models import Environment
from extensions.models import EnvironmentManifest, ExtensionValue
from kmscore.vaultclient.answers import VaultRefused
from operations.models import Operation
from operations.work import sweep
from tests.by_hand import add_to_document
from tests.conftest import HostedVault, Stage
from vaults.keys.rotation import request_rotation
from vaults.models import Recipient, RecipientRotation


def recipient_of(row: Any) -> Recipient:
    return Recipient.objects.get(pk=row.pk)


def rotate(stage: Stage, *rows: Any) -> Operation:
    """Ask for a rotation of these environments and Atoms; nothing is done yet."""
    return request_rotation(stage.account, [recipient_of(row) for row in rows], actor=stage.alice)


def finished(operation: Operation, turns: int = 12) -> Operation:
    """Sweep until the operation has ended, as if what waits for its time always had it."""
    for _ in range(turns):
        past = timezone.now() - timedelta(seconds=1)
        Operation.objects.filter(state=Operation.State.WAITING).update(run_after=past)
        RecipientRotation.objects.filter(state="rewrapped").update(settle_at=past)
        sweep()
        operation.refresh_from_db()
        if operation.is_finished:
            return operation
    raise AssertionError(f"not finished: {operation.state} {operation.error_code} {operation.error_sentence}")


def documents(vault: HostedVault, row: Any) -> dict[int, dict[str, str]]:
    """A recipient's documents as the vault has them."""
    found = {}
    for number in range(20):
        try:
            found[number] = vault.root.read_document(recipient_of(row).mounts.documents, f"{row.pk}/{number}")
        except VaultRefused:
            continue
    return found


def entries(vault: HostedVault, row: Any) -> dict[str, str]:
    return {key: wrapped for document in documents(vault, row).values() for key, wrapped in document.items()}


def versions(vault: HostedVault, row: Any) -> Counter[int]:
    """How many wrapped data keys there are of each version."""
    found = (re.match(r"vault:v(\d+):", wrapped) for wrapped in entries(vault, row).values())
    return Counter(int(match[1]) for match in found if match)


def key(vault: HostedVault, row: Any) -> tuple[int, int]:
    """The newest version of a recipient's key, and the oldest the vault still opens."""
    data = vault.root.call("GET", f"{recipient_of(row).mounts.transit}/keys/{row.pk}")["data"]
    return data["latest_version"], data["min_decryption_version"]


def opens(vault: HostedVault, row: Any, wrapped: str) -> bool:
    try:
        vault.root.unwrap_data_key(recipient_of(row).mounts.transit, str(row.pk), wrapped)
    except VaultRefused:
        return False
    return True


def filled(vault: HostedVault, environment: Environment, count: int) -> list[str]:
    """Make so many data keys as saves would have, without their values: ids. In batches, at the vault and in the database."""
    import base64
    import os
    import uuid

    from kmscore.vaultclient.client import chunks
    from vaults.models import DOCUMENT_ENTRIES, DataKey

    row = Recipient.objects.get(pk=environment.pk)
    made, ids = row.data_keys_made, [str(uuid.uuid4()) for _ in range(count)]
    placed = [(key_id, (made + at) // DOCUMENT_ENTRIES) for at, key_id in enumerate(ids)]
    for number in sorted({document for _, document in placed}):
        here = [key_id for key_id, document in placed if document == number]
        for batch in chunks(here):
            plain = [{"plaintext": base64.b64encode(os.urandom(32)).decode()} for _ in batch]
            answer = vault.root.call("POST", f"intransit/encrypt/{environment.pk}", {"batch_input": plain})
            wrapped = [result["ciphertext"] for result in answer["data"]["batch_results"]]
            add_to_document(
                vault.root, row.mounts, f"{environment.pk}/{number}", dict(zip(batch, wrapped, strict=True))
            )
    version = row.in_transit_version
    DataKey.objects.bulk_create(
        (DataKey(id=key_id, recipient=row, document=number, key_version=version) for key_id, number in placed),
        batch_size=500,
    )
    Recipient.objects.filter(pk=row.pk).update(data_keys_made=made + count)
    return ids


def ciphertexts() -> str:
    """A digest of everything sealed that the database holds."""
    rows = [
        *ExtensionValue.objects.order_by("pk").values_list("pk", "data_key_id", "revision", "sealed"),
        *EnvironmentManifest.objects.order_by("pk").values_list("pk", "data_key_id", "revision", "sealed"),
    ]
    return hashlib.sha256(repr([(*row[:3], bytes(row[3] or b"")) for row in rows]).encode()).hexdigest()
