"""Access-granting rows bear the portal's signature; those written past it grant nothing."""

from html import unescape

import pytest
from django.db import models
from django.utils import timezone

from accounts.access import genuine_roles
from accounts.models import Account, Membership, Role
from accounts.privileges import ADMINISTRATOR
from accounts.rows import SignedModel
from atoms import actions as atoms
from atoms.models import Atom, Environment
from tests.conftest import Cast, Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_every_access_granting_table_is_signed() -> None:
    from django.apps import apps

    signed = {model._meta.label for model in apps.get_models() if issubclass(model, SignedModel)}
    assert signed == {
        "accounts.Account",
        "accounts.Role",
        "accounts.Membership",
        "accounts.SupportStaff",
        "accounts.User",
        "atoms.Environment",
        "atoms.Atom",
        "atoms.NodeCredential",
        "atoms.InstallerToken",
        "extensions.Connection",
        "extensions.EnvironmentManifest",
        "extensions.Field",
        "operations.Operation",
        "vaults.Enrolment",
        "vaults.KmsAccount",
        "vaults.KmsSettings",
        "vaults.LoginAlarm",
        "vaults.PropertiesFile",
        "vaults.Recipient",
        "vaults.SecretId",
        "vaults.ShredApproval",
        "vaults.ShredCertificate",
        "vaults.ShredProof",
    }


def test_a_role_slipped_into_the_table_gives_nothing(cast: Cast) -> None:
    membership = Membership.objects.get(user=cast.bob, account=cast.account)
    Membership.objects.filter(pk=membership.pk).update(roles=[*membership.roles, str(ADMINISTRATOR)])
    membership.refresh_from_db()
    assert genuine_roles(membership) == []
    assert cast.client("bob").get(f"/accounts/{cast.account.code}/audit/").status_code == 403


def test_a_membership_slipped_into_the_table_shows_no_account(cast: Cast) -> None:
    slipped = Membership(account=cast.other, user=cast.bob, created_at=timezone.now(), signature=b"0" * 72)
    models.Model.save_base(slipped, raw=True)
    assert Account.of_member(cast.bob) == [cast.account]
    assert cast.client("bob").get(f"/accounts/{cast.other.code}/atoms/").status_code == 403


def test_an_account_that_passes_for_another_is_shown_to_nobody(cast: Cast) -> None:
    """On commit b5f6031 a member of both was shown the other one's environments under this one's name and address."""
    Account.objects.filter(pk=cast.account.pk).update(name="Aside")
    Account.objects.filter(pk=cast.other.pk).update(name="Acme Corp")
    assert cast.client("charlie").get(f"/accounts/{cast.other.code}/atoms/").status_code == 403


def test_a_role_whose_privileges_were_edited_gives_nothing(cast: Cast) -> None:
    membership = Membership.objects.get(user=cast.bob, account=cast.account)
    Role.objects.filter(name="Readers").update(privileges="ACCOUNT_ADMIN VIEW_AUDIT_LOGS")
    assert genuine_roles(membership) == []


def test_a_membership_pointed_at_another_user_carries_no_role(cast: Cast) -> None:
    membership = Membership.objects.get(user=cast.alice, account=cast.account)
    Membership.objects.filter(pk=membership.pk).update(user=cast.charlie)
    membership.refresh_from_db()
    assert genuine_roles(membership) == []


def test_an_attachment_pointed_at_another_environment_is_refused(stage: Stage) -> None:
    from accounts.rows import RowTampered

    Atom.objects.filter(pk=stage.atom.pk).update(attached_to=stage.test)
    stage.atom.refresh_from_db()
    with pytest.raises(RowTampered):
        _ = stage.atom.environment


def test_environment_roles_limit_who_sees_an_environment(stage: Stage) -> None:
    bob = Membership.objects.get(user=stage.cast.bob, account=stage.account)
    alice = Membership.objects.get(user=stage.alice, account=stage.account)
    atoms.set_environment_roles(stage.production, [Role.objects.get(name="Support")], actor=stage.alice)
    assert {env.name for env in Environment.objects.visible_to(bob)} == {"Test"}
    held = [str(role.pk) for role in Role.objects.filter(name__in=("Readers", "Support"))]
    Environment.objects.filter(pk=stage.production.pk).update(roles=held)
    assert {env.name for env in Environment.objects.visible_to(bob)} == {"Test"}, "a role slipped into the row"
    assert {env.name for env in Environment.objects.visible_to(alice)} == {"Production", "Test"}


def test_who_lacks_a_role_or_an_account_is_sent_to_whoever_can_give_it(cast: Cast) -> None:
    bob = cast.client("bob")
    refused = " ".join(bob.get(f"/accounts/{cast.account.code}/environments/new/").content.decode().split())
    assert "The portal's operator can give you a role that has it." in unescape(refused)
    Membership.objects.get(user=cast.bob).delete()
    nowhere = " ".join(bob.get("/").content.decode().split())
    assert "Ask the portal's operator to make <b>bob@example.com</b> a member" in unescape(nowhere)
    assert "dministrator of" not in refused + nowhere
