"""The self-check: a worthless value sealed for an environment like its secrets, and which containers opened it lately.

A container asks for it with a fresh challenge, opens it the whole way (log in, read the document, unwrap, open) and answers
the challenge: so "works" is proved every few minutes, not assumed.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from atoms.models import Environment, Node
from kmscore.refused import Refused
from kmscore.sealed import selfcheck
from vaults.hosted import sealing
from vaults.models import Recipient, SelfCheckResult, SelfCheckValue

VALUE_BYTES = 32
RENEWED_EVERY = timedelta(days=1)
CLAIM = timedelta(seconds=30)  # one request seals anew, the others wait; if it dies another one may
ANSWERED_WITHIN = timedelta(minutes=5)
FRESH = timedelta(minutes=10)  # a container asks every 5 minutes
OVERDUE = timedelta(minutes=15)


# -- sealing ------------------------------------------------------------------------------------------------------------


def current_value(environment: Environment) -> SelfCheckValue:
    """The environment's test value, sealed anew when it is a day old, or older than its key or a restore.

    Many may ask at once: one of them seals, and as long as there is an older one the others get that.
    Raises Refused: selfcheck_not_ready, and what sealing.new_save_key raises.
    """
    test_value, _ = SelfCheckValue.objects.select_related("data_key").get_or_create(environment=environment)
    if _is_good(test_value, environment):
        return test_value
    now = timezone.now()
    free = Q(claimed_at=None) | Q(claimed_at__lt=now - CLAIM)
    if SelfCheckValue.objects.filter(free, pk=test_value.pk, revision=test_value.revision).update(claimed_at=now):
        _seal(test_value, environment)
    found = SelfCheckValue.objects.select_related("data_key").get(pk=test_value.pk)
    if found.sealed is None or found.data_key is None or found.data_key.lost_at is not None:
        raise Refused("selfcheck_not_ready", "The test value is being sealed. Ask again in a minute.")
    return found


def _is_good(test_value: SelfCheckValue, environment: Environment) -> bool:
    key = test_value.data_key
    if test_value.sealed is None or key is None or key.lost_at or key.retired_at:
        return False
    rotated = Recipient.objects.filter(pk=environment.pk).values_list("rotated_at", flat=True).first()
    return test_value.sealed_at > timezone.now() - RENEWED_EVERY and (rotated is None or rotated < test_value.sealed_at)


def _seal(test_value: SelfCheckValue, environment: Environment) -> None:
    key = sealing.new_save_key(environment)
    value, revision = secrets.token_bytes(VALUE_BYTES), test_value.revision + 1
    sealed = key.seal_selfcheck(revision, value)
    with transaction.atomic():
        # Conditional: whoever claimed it after us, because we were slow, may have been quicker.
        if (
            SelfCheckValue.objects.select_for_update(no_key=True)
            .filter(pk=test_value.pk, revision=test_value.revision)
            .exists()
        ):
            SelfCheckValue.objects.filter(pk=test_value.pk).update(
                data_key=key.record(),
                revision=revision,
                sealed=sealed,
                digest=selfcheck.digest(value),
                sealed_at=timezone.now(),
                claimed_at=None,
            )


# -- asking and answering -----------------------------------------------------------------------------------------------


def challenge(node: Node, test_value: SelfCheckValue) -> bytes:
    """A new challenge for a node; an earlier one counts no more."""
    value = secrets.token_bytes(selfcheck.CHALLENGE_BYTES)
    asked = {"challenge": value, "asked_at": timezone.now()}
    moved = SelfCheckResult.objects.filter(node=node).exclude(environment=test_value.environment_id)
    moved.update(proved_at=None, code="", failed_at=None, environment=test_value.environment_id)
    SelfCheckResult.objects.update_or_create(
        node=node, defaults=asked, create_defaults={**asked, "environment_id": test_value.environment_id}
    )
    return value


def take_answer(node: Node, revision: int, given: bytes) -> None:
    """A container's answer to its challenge, which counts once. Raises Refused when it proves nothing."""
    row, test_value = _asked(node)
    if test_value is None or test_value.revision != revision:
        raise Refused("selfcheck_changed", "The test value was sealed anew meanwhile. Ask again.")
    if not selfcheck.is_answer(given, bytes(test_value.digest), bytes(row.challenge), str(node.pk)):
        _fail(row, "proof_wrong")
        raise Refused("proof_wrong", "This is not the answer of somebody who opened the test value.")
    now = timezone.now()
    SelfCheckResult.objects.filter(pk=row.pk).update(proved_at=now, code="", failed_at=None)


def take_failure(node: Node, code: str) -> None:
    """Why a container could not open it. Raises Refused for an answer nobody asked for."""
    row, _ = _asked(node)
    _fail(row, code)


def _asked(node: Node) -> tuple[SelfCheckResult, SelfCheckValue | None]:
    """The node's proof as it was asked, with its challenge used up by this."""
    row = SelfCheckResult.objects.filter(node=node).first()
    if row is None or not row.challenge or row.asked_at < timezone.now() - ANSWERED_WITHIN:
        raise Refused("challenge_unknown", "This challenge was answered already, or is too old. Ask again.")
    used = SelfCheckResult.objects.filter(pk=row.pk, challenge=bytes(row.challenge)).update(challenge=b"")
    if not used:
        raise Refused("challenge_unknown", "This challenge was answered already, or is too old. Ask again.")
    return row, SelfCheckValue.objects.filter(environment=row.environment_id).exclude(sealed=None).first()


def _fail(row: SelfCheckResult, code: str) -> None:
    since = row.failed_at if row.code else timezone.now()
    SelfCheckResult.objects.filter(pk=row.pk).update(code=code, failed_at=since)


# -- saying -------------------------------------------------------------------------------------------------------------

# What a container reports is a code; the words are ours. By code: what is wrong, what to do.
SENTENCES = {
    "login_refused": (
        "The hosted vault does not accept this container's login.",
        "It asks for another one at its next sync. If this stays, revoke the node and enrol it anew.",
    ),
    "data_key_missing": (
        "The hosted vault has no key for the test value.",
        "Ask the portal's operator whether the vault was restored from a backup; `manage.py after_restore` mends it.",
    ),
    "data_key_broken": (
        "The hosted vault does not unwrap the key of the test value.",
        "Ask the portal's operator whether the vault was restored from a backup; `manage.py after_restore` mends it.",
    ),
    "selfcheck_broken": (
        "The test value does not open with its key: it was changed on the way or in the portal's database.",
        "Ask the portal's operator to look into the database.",
    ),
    "proof_wrong": ("The container answered wrongly.", "Revoke the node and enrol it anew."),
    "permission_denied": (
        "The hosted vault refuses to unwrap for this container.",
        "Ask the portal's operator to install the vault's layout again.",
    ),
    "vault_sealed": ("The hosted vault is sealed.", "Ask the portal's operator to unseal it."),
}
ELSE = ("The container could not reach the hosted vault, or not use its answer.", "It tries again by itself.")


@dataclass(frozen=True, slots=True)
class SelfCheckLine:
    """What is known of one container: tone is ok, warn, bad or "" (nothing to be said); at: a time or None."""

    node: Node
    tone: str
    word: str
    sentence: str
    mend: str = ""
    at: datetime | None = None
    since: datetime | None = None


def selfcheck_line(node: Node, environment_id: uuid.UUID | None) -> SelfCheckLine | None:
    """Of an enrolled node with `proof` loaded, and the environment it is in; None while there is nothing to open."""
    if environment_id is None or node.state != Node.State.ENROLLED:
        return None
    row: SelfCheckResult | None = getattr(node, "selfcheck", None)
    if row is not None and row.environment_id != environment_id:
        row = None
    at = row.proved_at if row else None
    if row is not None and row.code:
        said, mend = SENTENCES.get(row.code, ELSE)
        return SelfCheckLine(node, "bad", "Failing", said, mend, at, row.failed_at)
    if at is not None and timezone.now() - at < OVERDUE:
        return SelfCheckLine(
            node, "ok", "Proved", "A test value sealed by the portal was opened by this container.", at=at
        )
    if not node.is_online:
        return SelfCheckLine(node, "", "Offline", "It does not ask the portal, so nothing is proved just now.", at=at)
    if at is None and (node.enrolled_at is None or timezone.now() - node.enrolled_at < OVERDUE):
        return SelfCheckLine(node, "", "Not yet", "It opens a test value within minutes of its start.")
    mend = (
        "Run `kms-runtime run`, or `kms-runtime sync` from a timer; an older program has to be replaced by the newest."
    )
    return SelfCheckLine(node, "warn", "Not proved", "It syncs, and has not opened a test value lately.", mend, at)


def unproved(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Those of the enrolled, attached nodes that have not proved within FRESH."""
    proved = Q(
        selfcheck__proved_at__gt=timezone.now() - FRESH,
        selfcheck__code="",
        selfcheck__environment=F("atom__attached_to"),
    )
    return nodes.exclude(pk__in=nodes.filter(proved).values("pk"))
