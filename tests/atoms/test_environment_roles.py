"""Who sees an environment: nobody's limit is lifted by a page that does not know of it, and whoever shuts himself out is told."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts import actions as accounts
from accounts.models import Role
from accounts.privileges import Privilege
from atoms import actions as atoms
from atoms.models import Environment
from tests.conftest import Cast, client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def place(cast: Cast) -> Environment:
    return atoms.create_environment(cast.account, name="Production", classification="PROD", actor=cast.alice)


def roles_now(place: Environment) -> list[str]:
    return list(Environment.objects.get(pk=place.pk).roles)


def page(client: Client, place: Environment) -> dict[str, Any]:
    """What a browser would post from the page as it is now."""
    form = client.get(reverse("atoms:environment_detail", args=[place.account.code, place.pk])).context["roles_form"]
    return {"roles": form["roles"].value(), "seen_by": form["seen_by"].value()}


def post(client: Client, place: Environment, inputs: dict[str, Any]) -> Any:
    return client.post(reverse("atoms:environment_roles", args=[place.account.code, place.pk]), inputs)


def test_a_stale_page_lifts_no_limit_and_says_who_was_first(cast: Cast, place: Environment) -> None:
    alice, readers, support = cast.client("alice"), Role.objects.get(name="Readers"), Role.objects.get(name="Support")
    stale = page(alice, place)
    assert post(alice, place, page(alice, place) | {"roles": [readers.pk]}).status_code == 302
    answer = post(alice, place, stale | {"roles": [support.pk]})
    text = " ".join(answer.content.decode().split())
    assert (answer.status_code, roles_now(place)) == (409, [str(readers.pk)])
    assert "<b>alice@example.com</b> changed them" in text
    assert "Production is seen by members with <b>Readers</b> now." in text
    assert [str(one) for one in answer.context["roles_form"]["roles"].value()] == [str(support.pk)], "what was ticked"
    again = {"roles": [support.pk], "seen_by": answer.context["roles_form"]["seen_by"].value()}
    assert post(alice, place, again).status_code == 302, "whoever read that may go on"
    assert roles_now(place) == [str(support.pk)]


def test_a_post_that_does_not_say_what_it_saw_is_stale(cast: Cast, place: Environment) -> None:
    readers = Role.objects.get(name="Readers")
    assert post(cast.client("alice"), place, {"roles": [readers.pk]}).status_code == 409
    assert roles_now(place) == []


def test_a_new_name_makes_no_choice_of_roles_stale(cast: Cast, place: Environment) -> None:
    inputs = page(cast.client("alice"), place)
    atoms.rename_environment(place, name="Live", actor=cast.alice)
    readers = Role.objects.get(name="Readers")
    assert post(cast.client("alice"), place, inputs | {"roles": [readers.pk]}).status_code == 302
    assert roles_now(place) == [str(readers.pk)]


def test_whoever_shuts_himself_out_is_told_so_where_he_still_may_be(cast: Cast, place: Environment) -> None:
    keepers = Role(
        account=cast.account, name="Keepers", privileges=f"{Privilege.ENV_MANAGEMENT} {Privilege.ATOM_MANAGEMENT}"
    )
    keepers.save(force_insert=True)
    accounts.add_member(cast.account, cast.bob, [keepers], actor="tests")
    bob = client_of(cast.bob)
    answer = post(bob, place, page(bob, place) | {"roles": [Role.objects.get(name="Readers").pk]})
    assert answer.headers["Location"] == reverse("atoms:atom_management", args=[cast.account.code])
    assert (
        "You have none of them, so you do not see it any more" in bob.get(answer.headers["Location"]).content.decode()
    )
