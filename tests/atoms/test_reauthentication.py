"""Acts that grant or destroy ask for a recent proof of who is there."""

from datetime import timedelta

import pytest
import time_machine
from django.urls import reverse
from django.utils import timezone

from tests.conftest import PASSWORD, Stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
ACTS = ("atom_attach", "atom_detach", "atom_delete", "atom_install")


@pytest.mark.parametrize("act", ACTS)
def test_a_fresh_sign_in_is_proof_enough(stage: Stage, act: str) -> None:
    url = reverse(f"atoms:{act}", args=[stage.account.code, stage.atom.pk])
    assert stage.cast.client("alice").get(url).status_code == 200


@pytest.mark.parametrize("act", ACTS)
def test_an_old_sign_in_is_asked_again_and_then_goes_on(stage: Stage, act: str) -> None:
    url = reverse(f"atoms:{act}", args=[stage.account.code, stage.atom.pk])
    client = stage.cast.client("alice")
    with time_machine.travel(timezone.now() + timedelta(minutes=11), tick=True):
        asked = client.get(url)
        assert asked.status_code == 302
        assert asked.headers["Location"].startswith("/auth/reauthenticate/")
        assert client.post(asked.headers["Location"], {"password": "wrong"}).status_code == 200
        assert client.get(url).status_code == 302
        assert client.post(asked.headers["Location"], {"password": PASSWORD}).headers["Location"] == url
        assert client.get(url).status_code == 200


def test_who_may_not_attach_may_not_bring_a_machine_to_an_attached_atom(stage: Stage) -> None:
    from accounts import actions as accounts
    from accounts.models import Role
    from atoms import actions as atoms

    accounts.add_member(stage.account, stage.cast.bob, [Role.objects.get(name="Production Support")], actor=stage.alice)
    bob = stage.cast.client("bob")
    attached = reverse("atoms:atom_install", args=[stage.account.code, stage.atom.pk])
    assert (bob.get(attached).status_code, bob.post(attached, {"minutes": 60}).status_code) == (403, 403)
    loose = atoms.create_atom(stage.account, name="Loose", type="ATOM", environment=None, actor=stage.alice)
    free = reverse("atoms:atom_install", args=[stage.account.code, loose.pk])
    assert bob.post(free, {"minutes": 60}).status_code == 302


def test_a_new_atom_comes_with_its_token_and_lines(stage: Stage) -> None:
    url = reverse("atoms:atom_create", args=[stage.account.code])
    form = {"name": "Fresh", "type": "ATOM", "environment": stage.production.pk, "minutes": 30}
    page = stage.cast.client("alice").post(url, form, follow=True)
    assert page.status_code == 200
    token = stage.account.atoms.get(name="Fresh").installer_tokens.get()
    assert (token.expires_at - token.created_at).total_seconds() == pytest.approx(1800, abs=5)
    assert 'id="installer-token"' in page.content.decode() or "The runtime was not built" in page.content.decode()


def test_the_page_offers_the_other_environments_by_name(stage: Stage) -> None:
    """A page that asked its form what it had no more said that there were none."""
    alice = stage.cast.client("alice")
    page = reverse("atoms:atom_attach", args=[stage.account.code, stage.atom.pk])
    shown = alice.get(page).content.decode()
    assert f'<option value="{stage.test.pk}">Test</option>' in shown, "and chooses none of them"
    assert '<option value="" selected>Choose…</option>' in shown
    assert alice.post(page, {"environment": ""}).status_code == 200, "Enter alone grants nothing"
    assert str(stage.production.pk) not in shown.partition("<form")[2].partition("</form>")[0]
    assert alice.post(page, {"environment": str(stage.test.pk)}).status_code == 302
    assert stage.atom.__class__.objects.get(pk=stage.atom.pk).attached_to_id == stage.test.pk
