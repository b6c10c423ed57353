"""Logins at the hosted vault that a test makes past the portal or through it, and what the watch says of them."""

from __future__ import annotations

from atoms import actions as atoms
from atoms.models import Node
from operations.work import sweep
from tests.conftest import Stage
from vaults.hosted import calls
from vaults.logins import enrolment, watch
from vaults.logins.watch import Scan
from vaults.models import Enrolment, LoginAlarm

METADATA = {"atom": "made up", "node": "made up"}


def forged(mount: str, recipient: object, metadata: dict[str, str] | None = None) -> str:
    """What issuer and provisioner can do together, past the portal; returns the accessor."""
    calls.wrapped_role_id(mount, recipient, 60)
    return calls.wrapped_secret_id(mount, recipient, metadata or METADATA, 60).accessor


def enrolled(stage: Stage) -> Node:
    """A node with a login each, as the portal makes them, without a machine."""
    token = atoms.create_installer_token(stage.atom, minutes=30, actor=stage.alice)[1]
    begun = enrolment.begin(token, sync_hash=b"1" * 32, settings_hash=b"2" * 32, host_name="host1", version="1")
    sweep()
    found = Enrolment.objects.select_related("node__atom__account__kms").get(pk=begun.pk)
    assert enrolment.deliver(found)
    Node.objects.filter(pk=found.node_id).update(state=Node.State.ENROLLED)
    return found.node


def the_alarm() -> LoginAlarm:
    return LoginAlarm.objects.get()


def look() -> Scan:
    found = watch.scan()
    assert found is not None
    return found
