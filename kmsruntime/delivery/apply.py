"""Takes a delivery: opens it, checks it, seals everything under a new key, replaces the store.

Nothing is replaced before all of it was checked.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from kmscore.vaultclient.client import Vault
from kmsruntime.delivery import verify
from kmsruntime.delivery.decrypt import open_delivery
from kmsruntime.delivery.read import Delivery
from kmsruntime.errors import DeliveryRefused, RuntimeProblem
from kmsruntime.keysource.settings import NEVER_SAVED
from kmsruntime.store.format import Header, Store
from kmsruntime.store.sealed_state import SealedState

RESTORED: Final = "portal_restored"


def apply_delivery(
    sealed_state: SealedState,
    vault: Vault,
    held: Store,
    delivery: Delivery,
    etag: str,
    *,
    accept_restore: bool,
    whole: bool,
) -> str:
    """Take a delivery for the environment the container's login is for; returns a line for people.

    whole: everything was asked for, not only what is new. After a restore of the portal it has to be (RESTORED): what is
    held may be of the abandoned timeline. Only the sealed manifest says so, so nobody at the database can.
    Raises RevisionLower, DeliveryRefused, StorageFailed and the vaults' errors; then the store is as it was.
    """
    if not accept_restore:
        verify.check_revision(delivery, held.header.seen.get(delivery.environment, 0))
    verify.check_empty(delivery)
    header = replace(
        held.header,
        environment=delivery.environment,
        environment_name=delivery.environment_name,
        revision=delivery.revision,
        attachment_revision=delivery.attachment_revision,
        settings_revision=held.header.settings_revision or NEVER_SAVED,
        etag=etag,
        rekey_revision=max(held.header.rekey_revision, delivery.rekey_revision),  # what is taken gets a new key anyway
        seen={**held.header.seen, delivery.environment: delivery.revision},
    )
    if delivery.manifest is None:
        sealed_state.put_nothing(header)
        return f"Nothing is set in {delivery.environment_name} yet."
    return _open_and_write(sealed_state, vault, held, delivery, header, whole)


def _open_and_write(
    sealed_state: SealedState, vault: Vault, held: Store, delivery: Delivery, header: Header, whole: bool
) -> str:
    login = sealed_state.environment().login
    assert login is not None
    try:
        opened = open_delivery(vault, login, lambda: sealed_state.new_key(header), delivery)
        verify.check_manifest(opened.manifest, delivery)
        restored = opened.manifest.restored
        is_restored = restored > header.restored.get(delivery.environment, 0)
        if is_restored and not whole:
            raise DeliveryRefused(RESTORED, "The portal was restored from a backup: everything has to be fetched anew.")
        verify.check_delivered(opened.manifest, delivery)
        known = _known(held)
        verify.check_sealed(opened.manifest, {} if is_restored else known)  # another timeline knew nothing of it
        entries = verify.assemble(opened.manifest, delivery, opened.values, known)
    except RuntimeProblem:
        sealed_state.file.forget_unused(held.header)
        raise
    header = replace(header, restored={**header.restored, delivery.environment: restored})
    sealed_state.put(header, entries, opened.at_rest)
    return (
        f"Took revision {delivery.revision} of {delivery.environment_name}: {len(entries)} entries, "
        f"{len(delivery.values) + len(delivery.plain)} of them new."
    )


def _known(held: Store) -> verify.Known:
    """What is held, by path; sealed values opened."""
    values = iter(held.open_all())
    return {
        one.path: (one.form, one.revision, one.digest, next(values) if one.form == "sealed" else one.plain)
        for one in held.held
    }


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection while a delivery is taken: it makes 100,000 objects without a cycle among them, and the
    collector would walk them again and again (a tenth of the time at 10,000 values)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
