"""What can go wrong, each with a stable code, one sentence (what is wrong, what to do) and a documented exit code.

Pure. No error here ever carries a value, a token or an answer's text. docs/runtime.md lists the exit codes, and a test
keeps that table equal to `EXIT_CODES`.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

EXIT_CODES: Final = {
    "ok": 0,
    "unexpected": 1,
    "usage": 2,
    "delivery_refused": 65,
    "revision_lower": 66,
    "not_enrolled": 67,
    "enrolment_refused": 68,
    "intrusion": 69,
    "portal_unavailable": 70,
    "portal_refused": 71,
    "portal_misconfigured": 72,
    "vault_unavailable": 73,
    "vault_refused": 74,
    "vault_misconfigured": 75,
    "store_damaged": 76,
    "storage_failed": 77,
    "busy": 78,
    "value_missing": 79,
    "value_unusable": 80,
    "customer_vault_unavailable": 81,
    "customer_vault_refused": 82,
    "customer_vault_misconfigured": 83,
    "settings_refused": 84,
    "command_not_executable": 126,
    "command_not_found": 127,
    "interrupted": 130,
}
LINE_CHARACTERS: Final = 8192  # more than a path has, and what is said of it


class RuntimeProblem(Exception):
    """Something the person at the container should read. `code` is for machines, `kind` chooses the exit code."""

    kind = "unexpected"

    def __init__(self, code: str, sentence: str) -> None:
        self.code, self.sentence = code, printable(sentence)  # it is kept and reported, too: a path may be no text
        super().__init__(self.sentence)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.kind]


class AddressRefused(RuntimeProblem):
    """An address or a CA file on the command line cannot be used."""

    kind = "usage"


class SelectionRefused(RuntimeProblem):
    """An option of `get` or `exec` is not understood."""

    kind = "usage"


class DeliveryRefused(RuntimeProblem):
    """What the portal delivered does not fit together: something was moved, swapped, dropped, renamed or cannot be opened."""

    kind = "delivery_refused"


class RevisionLower(RuntimeProblem):
    """The portal delivered an older state than this container has already held."""

    kind = "revision_lower"


class NotEnrolled(RuntimeProblem):
    """There are no credentials in the directory."""

    kind = "not_enrolled"


class EnrolmentRefused(RuntimeProblem):
    """The portal does not let this container enrol, or not like this."""

    kind = "enrolment_refused"


class Intrusion(RuntimeProblem):
    """Somebody else opened credentials that were made for this container."""

    kind = "intrusion"


class PortalUnavailable(RuntimeProblem):
    """The portal gives no answer, or fails: the same request may work later."""

    kind = "portal_unavailable"


class PortalRefused(RuntimeProblem):
    """The portal answered no (4xx); `status` is the HTTP status."""

    kind = "portal_refused"

    def __init__(self, code: str, sentence: str, status: int = 0) -> None:
        super().__init__(code, sentence)
        self.status = status


class PortalMisconfigured(RuntimeProblem):
    """What answers at the portal's address is not the portal."""

    kind = "portal_misconfigured"


class HostedVaultUnavailable(RuntimeProblem):
    """The hosted vault gives no answer, is sealed or fails."""

    kind = "vault_unavailable"


class HostedVaultRefused(RuntimeProblem):
    """The hosted vault does not accept these credentials."""

    kind = "vault_refused"


class HostedVaultMisconfigured(RuntimeProblem):
    """What answers at the vault's address is not a vault."""

    kind = "vault_misconfigured"


class CustomerVaultUnavailable(RuntimeProblem):
    """The customer's own vault gives no answer, is sealed or fails."""

    kind = "customer_vault_unavailable"


class CustomerVaultRefused(RuntimeProblem):
    """The customer's own vault does not accept the token, or its policy forbids what is needed."""

    kind = "customer_vault_refused"


class CustomerVaultMisconfigured(RuntimeProblem):
    """The customer's own vault cannot be used as its properties file names it."""

    kind = "customer_vault_misconfigured"


class SettingsRefused(RuntimeProblem):
    """The Atom's KMS settings do not fit together: rolled back, swapped, or sealed for something else."""

    kind = "settings_refused"


class StoreDamaged(RuntimeProblem):
    """The store or its key cannot be read any more."""

    kind = "store_damaged"


class StoreForeign(RuntimeProblem):
    """The store is another Atom's; it is never overwritten."""

    kind = "store_damaged"


class StorageFailed(RuntimeProblem):
    """The directory cannot be written: disk full, wrong owner, read-only."""

    kind = "storage_failed"


class Busy(RuntimeProblem):
    """Another run of this program is at work in the same directory."""

    kind = "busy"


class ValueMissing(RuntimeProblem):
    """There is no such value here."""

    kind = "value_missing"


class ValueUnusable(RuntimeProblem):
    """A value is there and cannot be handed over like this."""

    kind = "value_unusable"


class CommandNotFound(RuntimeProblem):
    kind = "command_not_found"


class CommandNotExecutable(RuntimeProblem):
    kind = "command_not_executable"


class Unforeseen(RuntimeProblem):
    """What status and the portal are told of an exception that nobody foresaw."""

    kind = "unexpected"


def printable(text: str) -> str:
    """One line that is safe to show: what steers a terminal, ends the line or turns the direction is shown as its escape.

    Names come from the portal and go to terminals and logs, where nobody there may forge a line. One that is longer than any
    line of ours is cut off.
    """
    shown = text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}..."
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown])


def describe_unexpected(error: BaseException) -> str:
    """What to say of an exception that nobody foresaw: its type and place; its text could hold a value."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
    return f"Something unforeseen happened ({where}); please report it. [unexpected]"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Names in a sentence: "a, b and 4 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
