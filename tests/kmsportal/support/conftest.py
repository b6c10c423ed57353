"""An account with something of everything, and somebody of the support staff."""

from typing import Any

import pytest
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import User
from atoms.models import Node
from tests.conftest import PASSWORD, Stage
from tests.extensions.dialog import Dialog
from tests.kmsportal.support.records import PLAIN, PROPERTY, SECRET
from vaults.models import ContainerReport, KmsSettings, LoginAlarm


@pytest.fixture
def scene(stage: Stage) -> Stage:
    """Something of every kind of record."""
    Dialog(stage).post(
        secret_password=SECRET, value_user=PLAIN, **{"property.0.name": "p", "property.0.value": PROPERTY}
    )
    now = timezone.now()
    node = Node.objects.create(atom=stage.atom, state="enrolled", host_name="host1", enrolled_at=now, last_seen_at=now)
    ContainerReport.objects.create(node=node, reported_at=now, key_name="atrest/x", key_version=1)
    KmsSettings.objects.create(atom=stage.atom)
    LoginAlarm(account=stage.account, mount="atoms", role=str(stage.atom.pk), accessor="canary-accessor-55").save(
        force_insert=True
    )
    return stage


@pytest.fixture
def staff(cast: Any) -> User:
    user = User.objects.create_user("sam@support.example", PASSWORD)
    accounts.add_support_staff(user)
    return user
