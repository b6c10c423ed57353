"""Registering what a worker does at the hosted vault: the vault's answers become the ends of an operation's turn."""

from collections.abc import Callable
from functools import wraps

from accounts.rows import RowTampered
from kmscore.refused import Refused
from kmscore.vaultclient.answers import VaultUnavailable
from operations.models import Operation
from operations.work import Failed, Retry, handler

KEYS_GROUP = "keys"  # exclusive group: what changes an account's keys or roles happens one after the other


def vault_operation(
    kind: str, *, queue: str = Operation.Queue.INTERACTIVE, cancellable: bool = False, admin: bool = False
) -> Callable[[Callable[[Operation], None]], Callable[[Operation], None]]:
    """Register a handler: a vault that is away is asked again, whatever else it refuses has failed."""

    def register(function: Callable[[Operation], None]) -> Callable[[Operation], None]:
        @handler(kind, queue=queue, cancellable=cancellable, admin=admin)
        @wraps(function)
        def handle(operation: Operation) -> None:
            try:
                function(operation)
            except RowTampered:
                sentence = "A row this needs was changed outside the portal, so it grants nothing."
                raise Failed("record_forged", sentence) from None
            except VaultUnavailable as error:
                raise Retry(error.code, error.sentence) from None
            except Refused as error:
                raise Failed(error.code, error.sentence) from None

        return handle

    return register
