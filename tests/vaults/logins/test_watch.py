"""The login watch: what no enrolment explains raises an alarm, and nothing else does."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import AuditEntry, Membership
from atoms.models import Node
from kmscore.vaultclient.answers import VaultRefused, VaultUnavailable
from kmscore.vaultclient.client import Vault
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from tests.by_hand import wrapped
from tests.conftest import HostedVault, Stage
from tests.vaults.logins.made_logins import METADATA, enrolled, forged, look, the_alarm
from vaults.hosted import calls
from vaults.hosted.sessions import drop_tokens
from vaults.logins import alarms, watch
from vaults.models import Enrolment, LoginAlarm, LoginWatch, SecretId

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgres,
    pytest.mark.usefixtures("impatient", "nothing_left"),
]


def test_enrolled_containers_raise_no_alarm(stage: Stage) -> None:
    enrolled(stage)
    found = look()
    assert (found.secret_ids, found.alarms, found.destroyed) == (2, [], 0)
    assert LoginWatch.objects.get().counts == {stage.account.pk.hex: 2}


@pytest.mark.parametrize("mount", ["environments", "atoms"])
def test_a_login_nobody_enrolled_raises_an_alarm_with_audit_and_mail(stage: Stage, mount: str) -> None:
    row = stage.production if mount == "environments" else stage.atom
    forged(mount, row.pk, {"atom": str(stage.atom.pk), "node": "<b>nobody</b>"})
    look()
    alarm = the_alarm()
    assert (alarm.account, alarm.mount, alarm.role) == (stage.account, mount, str(row.pk))
    assert alarm.metadata == {"atom": str(stage.atom.pk)}
    assert alarm.issued_at is not None
    entry = AuditEntry.objects.get(action="ALARM")
    assert row.name in entry.message
    assert [message.recipients() for message in mail.outbox] == [[stage.alice.email]]
    text = mail.outbox[0].subject + mail.outbox[0].body
    assert row.name in text
    assert f"/accounts/{stage.account.code}/kms/" in text
    assert alarm.accessor not in text


def test_it_is_raised_and_mailed_once(stage: Stage) -> None:
    forged("environments", stage.production.pk)
    assert [len(look().alarms) for _ in range(3)] == [1, 0, 0]
    assert (LoginAlarm.objects.count(), len(mail.outbox), AuditEntry.objects.filter(action="ALARM").count()) == (
        1,
        1,
        1,
    )


def test_a_row_without_the_portals_signature_explains_nothing(stage: Stage) -> None:
    node = enrolled(stage)
    accessor = forged("environments", stage.production.pk)
    real = SecretId.objects.filter(mount="environments").get()
    real.pk, real.accessor, real._state.adding = None, accessor, True  # everything of a genuine row but its accessor
    SecretId.objects.bulk_create([real])  # signs nothing
    assert SecretId.objects.filter(node=node).count() == 3
    assert [alarm.accessor for alarm in look().alarms] == [accessor]


def test_a_genuine_row_explains_only_its_own_role(stage: Stage) -> None:
    accessor = forged("environments", stage.test.pk)
    row = SecretId(atom_id=stage.atom.pk, attachment_revision=1, mount="environments", accessor=accessor)
    row.recipient_id = stage.production.pk
    row.save(force_insert=True)
    assert [alarm.role for alarm in look().alarms] == [str(stage.test.pk)]


def test_an_enrolment_that_was_changed_past_the_portal_explains_nothing(stage: Stage) -> None:
    enrolled(stage)
    Enrolment.objects.update(attachment_revision=99)
    assert len(look().alarms) == 2


@pytest.mark.parametrize("column", ["scanned_at", "lease_until"])
def test_a_look_in_the_future_puts_no_look_off(stage: Stage, column: str) -> None:
    """On commit b5f6031 one such row silenced the watch for good, and the card said that all was well."""
    look()
    forged("environments", stage.production.pk)
    LoginWatch.objects.update(**{column: timezone.now() + timedelta(days=900), "lease": uuid.uuid4()})
    others = {"lease": None, "lease_until": None} if column == "scanned_at" else {"scanned_at": None}
    LoginWatch.objects.update(**others)
    found = watch.scan_if_due()
    assert found is not None
    assert len(found.alarms) == 1


def test_an_alarm_written_past_the_portal_silences_nothing(stage: Stage) -> None:
    accessor = forged("environments", stage.production.pk)
    slipped = LoginAlarm(
        mount="environments", role=str(stage.production.pk), accessor=accessor, closed_at=timezone.now()
    )
    LoginAlarm.objects.bulk_create([slipped])
    assert len(look().alarms) == 1
    LoginAlarm.objects.update(closed_at=timezone.now())
    assert len(look().alarms) == 1


def test_a_row_that_is_written_a_moment_later_raises_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    accessor = forged("atoms", stage.atom.pk)

    def web_writes_it(seconds: float) -> None:
        row = SecretId(atom_id=stage.atom.pk, attachment_revision=1, mount="atoms", accessor=accessor)
        row.recipient_id = stage.atom.pk
        row.save(force_insert=True)

    monkeypatch.setattr(watch.time, "sleep", web_writes_it)
    assert look().alarms == []


def test_what_an_enrolment_explains_later_is_closed_by_itself(stage: Stage) -> None:
    accessor = forged("atoms", stage.atom.pk)
    look()
    row = SecretId(atom_id=stage.atom.pk, attachment_revision=1, mount="atoms", accessor=accessor)
    row.recipient_id = stage.atom.pk
    row.save(force_insert=True)
    look()
    assert the_alarm().closed_at is not None
    assert the_alarm().destroyed_at is None
    assert AuditEntry.objects.filter(action="ALARM_CLOSED").count() == 1


def test_a_role_of_no_account_is_an_alarm_without_one(stage: Stage, hosted_vault: HostedVault) -> None:
    calls.provision(OF_ENVIRONMENTS, "0f2c6c1e-7f6f-4a55-8d0a-0d8f6c1b7a01", "of nobody")
    forged("environments", "0f2c6c1e-7f6f-4a55-8d0a-0d8f6c1b7a01")
    look()
    assert the_alarm().account is None
    assert mail.outbox == []


def test_a_restored_vaults_old_logins_are_destroyed_again(stage: Stage) -> None:
    node = enrolled(stage)
    before = timezone.now() - timedelta(minutes=11)
    SecretId.objects.filter(mount="atoms").update(destroyed_at=before, superseded_at=before)
    SecretId.objects.filter(mount="environments").update(superseded_at=before)
    assert look().destroyed == 2
    for row in SecretId.objects.filter(node=node):
        assert calls.look_up_secret_id(row.mount, row.recipient_id, row.accessor) is None
        assert row.destroyed_at is not None
    assert AuditEntry.objects.filter(action="DESTROY").count() == 1
    assert look().destroyed == 0


def test_a_revoked_nodes_login_that_was_handed_out_just_then_is_destroyed(stage: Stage) -> None:
    enrolled(stage)
    Node.objects.update(state=Node.State.REVOKED)
    assert look().destroyed == 0
    SecretId.objects.update(issued_at=timezone.now() - timedelta(minutes=11))
    assert look().destroyed == 2


def test_what_was_taken_back_a_moment_ago_is_left_to_its_operation(stage: Stage) -> None:
    enrolled(stage)
    SecretId.objects.update(superseded_at=timezone.now())
    assert look().destroyed == 0


def test_a_vault_that_is_away_changes_nothing_and_the_card_says_since_when(stage: Stage, settings: Any) -> None:
    look()
    LoginWatch.objects.update(scanned_at=timezone.now() - timedelta(minutes=2))
    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
    with pytest.raises(VaultUnavailable):
        watch.scan()
    with pytest.raises(CommandError, match=r"Nothing was compared\. The vault cannot be reached\."):
        call_command("watch", "--once")
    row = LoginWatch.objects.get()
    assert (row.error_code, row.lease, LoginAlarm.objects.count()) == ("vault_unreachable", None, 0)
    page = stage.cast.client("alice").get(f"/accounts/{stage.account.code}/kms/").content.decode()
    assert "Not compared since" in page
    assert "The vault cannot be reached." in page


def test_two_looks_do_not_run_at_once(stage: Stage) -> None:
    assert LoginWatch.take() is not None
    assert watch.scan() is None
    LoginWatch.objects.update(lease_until=timezone.now() - timedelta(seconds=1))  # that worker died
    assert watch.scan() is not None


def test_a_mail_server_that_fails_delays_the_mail_and_not_the_alarm(stage: Stage, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    forged("environments", stage.production.pk)
    look()
    assert the_alarm().mailed_at is None
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    look()
    assert the_alarm().mailed_at is not None
    assert len(mail.outbox) == 1


def test_mail_goes_to_genuine_administrators_only(stage: Stage) -> None:
    """Bob is given the role past the portal."""
    alice = Membership.objects.get(user=stage.alice)
    Membership.objects.filter(user=stage.cast.bob).update(roles=alice.roles, signature=alice.signature)
    forged("environments", stage.production.pk)
    look()
    assert mail.outbox[0].recipients() == [stage.alice.email]


def test_the_command_says_what_it_found(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    forged("environments", stage.production.pk)
    call_command("watch", "--once")
    said = capsys.readouterr().out
    assert "1 new alarms" in said
    assert f"environments/{stage.production.pk}" in said


def test_sweep_looks_too(stage: Stage) -> None:
    forged("environments", stage.production.pk)
    call_command("sweep", "--watch")
    assert LoginAlarm.objects.count() == 1
    assert watch.scan_if_due() is None


# -- least privilege ----------------------------------------------------------------------------------------------------


def as_identity(vault: HostedVault, file: str, name: str) -> Vault:
    found = json.loads((vault.credentials / file / "identities.json").read_text())["identities"][name]
    server = Vault(vault.address)
    return server.with_token(server.login("platform", found["role_id"], found["secret_id"]).token)


def test_no_identity_of_web_or_worker_alone_becomes_a_runtime(stage: Stage, hosted_vault: HostedVault) -> None:
    """A login needs a role_id and a secret_id in the clear; nobody but both processes together gets them."""
    role = f"auth/environments/role/{stage.production.pk}"
    issued = calls.wrapped_secret_id("environments", stage.production.pk, METADATA, 60)
    tried = {
        "web": ("web", "issuer"),
        "worker": ("provisioner", "rotator"),
        "watch": ("watch",),
        "shredder": ("shredder",),
    }
    for file, names in tried.items():
        has = dict[str, bool]()
        for name in names:
            identity = as_identity(hosted_vault, file, name)
            assert identity.status_of("GET", f"{role}/role-id")[0] == 403  # in the clear: nobody
            assert identity.status_of("POST", f"{role}/secret-id", {"metadata": "{}"})[0] == 403
            assert identity.status_of("POST", f"{role}/custom-secret-id", {"secret_id": "mine"})[0] == 403
            assert identity.status_of("POST", role, {"bind_secret_id": "false"})[0] == 403
            for what, call in (("role_id", ("GET", None)), ("secret_id", ("POST", {"metadata": "{}"}))):
                try:
                    wrapped(identity, call[0], f"{role}/{what.replace('_', '-')}", call[1], seconds=60)
                    has[what] = True
                except VaultRefused:
                    pass
            looked_up = identity.status_of(
                "POST", f"{role}/secret-id-accessor/lookup", {"secret_id_accessor": issued.accessor}
            )[1]
            assert "secret_id" not in ((looked_up or {}).get("data") or {})
        assert set(has) != {"role_id", "secret_id"}, file
        assert set(has) <= {"web": {"secret_id"}, "worker": {"role_id"}}.get(file, set())


def test_one_that_was_destroyed_and_is_there_again_raises_the_alarm_again(stage: Stage) -> None:
    """An older snapshot of the vault was put back."""
    forged("environments", stage.production.pk)
    look()
    alarms.destroyed(the_alarm())
    alarms.close(the_alarm(), note="done", actor=stage.alice)
    LoginAlarm.objects.update(destroyed_at=timezone.now() - timedelta(minutes=5))
    look()
    found = the_alarm()
    assert (found.destroyed_at, found.closed_at) == (None, None)
    assert found.has_valid_signature()
