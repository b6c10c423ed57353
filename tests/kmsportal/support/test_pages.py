"""The support staff's pages: who gets in, what they show, and that each look is told of."""

import re
import uuid
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db.models import BinaryField
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from accounts import actions as accounts
from accounts import audit
from accounts.models import AuditEntry, SupportStaff, User
from atoms.models import Atom, Node
from kmsportal.support.page import FORGED, SupportPage
from kmsportal.support.records import site
from operations.actions import request
from tests.conftest import Stage, client_of
from tests.invariants.leaks import Scan
from tests.kmsportal.support.records import PLAIN, PROPERTY, SECRET, addresses, page_of, pages, rows
from tests.kmsportal.test_every_route import HEADERS, POLICY, Inline
from vaults.models import KmsSettings, PropertiesFile

pytestmark = pytest.mark.django_db(transaction=True)
# Names of columns that may hold what opens, identifies or is a secret.
NEVER = re.compile(
    r"(^|_)(mac|signature|hash|password|accessor|digest|challenge|sealed|plain|secret|lease|previous|role_id|taken_up)$"
)


# -- who ---------------------------------------------------------------------------------------------------------------


def test_only_the_support_staff_gets_in(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for address in addresses(scene):
        found = [client.get(address).status_code for client in (Client(), scene.cast.client("alice"), sam)]
        assert found == [302, 404, 200], address
        assert Client().get(address).headers["Location"].startswith("/auth/login/?next=/support/")
        assert scene.cast.client("alice").post(address).status_code == 404


def test_the_site_has_no_other_address(scene: Stage) -> None:
    """Nothing of Django's own site that adds, deletes, signs in or tells history."""

    def names(patterns: Any) -> set[str]:
        found: set[str] = set()
        for pattern in patterns:
            found |= names(pattern.url_patterns) if isinstance(pattern, URLResolver) else {str(pattern.name)}
            assert isinstance(pattern, URLPattern | URLResolver)
        return found

    allowed = {"index"}
    for model, page in site._registry.items():
        acts = getattr(page, "acts", ())
        allowed |= {f"{model._meta.app_label}_{model._meta.model_name}_{name}" for name in ("changelist", "change")}
        allowed |= {f"{model._meta.app_label}_{model._meta.model_name}_{act.name}" for act in acts}
    assert names(site.get_urls()) == allowed
    assert {act.name for page in site._registry.values() for act in getattr(page, "acts", ())} == {
        "activate-kms",
        "retry",
        "cancel",
    }


def test_a_row_written_past_the_application_lets_nobody_in(scene: Stage) -> None:
    alice = scene.cast.client("alice")
    SupportStaff.objects.bulk_create([SupportStaff(user=scene.alice, signature=b"\0" * 72)])
    assert alice.get("/support/").status_code == 404
    User.objects.filter(pk=scene.alice.pk).update(is_staff=True, is_superuser=True)
    assert alice.get("/support/").headers["Location"].startswith("/auth/login/"), "her session is nobody's"


def test_an_operator_makes_and_removes_support_staff(cast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call_command("create_support", cast.bob.email)
    bob = cast.client("bob")
    assert bob.get("/support/").status_code == 200
    call_command("create_support", cast.bob.email)
    call_command("create_support", cast.bob.email, remove=True)
    assert bob.get("/support/").status_code == 404
    with pytest.raises(CommandError):
        call_command("create_support", "nobody@example.com", remove=True)


def test_without_a_second_factor_there_is_only_setting_it_up(scene: Stage, staff: User, settings: Any) -> None:
    sam = client_of(staff)
    settings.MFA_REQUIRED = True
    for address in addresses(scene):
        assert sam.get(address).headers["Location"] == reverse("mfa_activate_totp")


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_every_column_is_decided_about_and_none_that_may_hold_a_secret_is_shown() -> None:
    for model, page in site._registry.items():
        assert isinstance(page, SupportPage)
        columns = {field.name: field for field in model._meta.concrete_fields}
        shown, withheld = set(page.shown), set(page.withheld)
        assert shown & withheld == set()
        assert set(columns) - shown - withheld == set(), f"decide about new columns of {model.__name__}"
        for name in {*shown, *map(str, page.list_display)} & set(columns):
            assert not isinstance(columns[name], BinaryField), (model, name)
            assert not NEVER.search(name), (model, name)
        own = {*shown, *map(str, page.list_display)} - set(columns)
        assert all(name in vars(type(page)) for name in own), "a fact that is no column is a method of the page"


def test_what_holds_values_is_not_registered() -> None:
    registered = {model._meta.label for model in site._registry}
    assert registered.isdisjoint(model._meta.label for model in apps.get_app_config("extensions").get_models())
    for name in ("vaults.DataKey", "vaults.SecretId", "vaults.Enrolment", "atoms.NodeCredential", "accounts.User"):
        assert name not in registered
    assert registered == {
        "accounts.Account", "accounts.Membership", "accounts.AuditEntry", "atoms.Environment", "atoms.Atom",
        "atoms.Node", "vaults.KmsSettings", "vaults.LoginAlarm", "operations.Operation",
    }  # fmt: skip


def test_no_page_shows_a_secret_or_a_plain_value(scene: Stage, staff: User) -> None:
    from extensions.models import ExtensionValue

    value = ExtensionValue.objects.get(form="sealed")
    scan = Scan(
        {
            "secret": SECRET,
            "plain": PLAIN,
            "property": PROPERTY,
            "ciphertext": bytes(value.sealed)[-24:],
            "accessor": "canary-accessor-55",
            "password": staff.password,
            "signature": bytes(scene.atom.signature),
        }
    )
    sam = client_of(staff)
    for address in addresses(scene):
        scan.content(address, sam.get(address).content)
    assert scan.scanned > 100_000
    assert scan.hits == set()


def test_a_lists_address_cannot_guess_what_a_column_holds(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for query in ("mac__startswith=x", "account__name=Acme", "id__gt=0", "atom__account__code__contains=a"):
        for row in rows(scene):
            answer = sam.get(f"{page_of(row).list_address()}?q={scene.account.code}&{query}")
            assert answer.status_code in (302, 400), (query, answer.status_code)


@pytest.mark.parametrize(
    "text", ["", " ", "a", "acme", "%", "8d0d0a9e-7c3b-4a57-9d5e-1f2a3b4c5d6e", "00000000", "\x00", "é" * 300]
)
def test_nothing_is_listed_without_a_whole_id_or_name(scene: Stage, staff: User, text: str) -> None:
    sam = client_of(staff)
    before = AuditEntry.objects.count()
    for row in rows(scene):
        answer = sam.get(page_of(row).list_address(), {"q": text})
        assert answer.status_code in (200, 302)
        assert str(row.pk) not in answer.content.decode()
    assert AuditEntry.objects.count() == before


def test_records_are_found_by_id_code_and_address(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for page in pages().values():
        for kind in ("pk", "account", "code", "lower"):
            row = next(row for row in rows(scene) if page_of(row) is page)  # anew: each look is an audit entry
            known = {
                "pk": row.pk,
                "account": scene.account.pk,
                "code": scene.account.code,
                "lower": scene.account.code.lower(),
            }
            answer = sam.get(page.list_address(), {"q": str(known[kind])})
            assert page.address(row) in answer.content.decode(), (row, kind)
    member = scene.account.memberships.get(user=scene.cast.bob)
    page = page_of(member)
    found = sam.get("/support/", {"kind": "accounts.membership", "q": "BOB@example.com"}, follow=True).content.decode()
    assert page.address(member) in found
    assert "Readers" in found
    assert scene.cast.charlie.email not in found


def test_an_unknown_record_is_404(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for row in rows(scene):
        gone = page_of(row).address(row).replace(str(row.pk), str(uuid.uuid4()))
        assert sam.get(gone).status_code == 404
        assert sam.get(gone.replace("-", "x")).status_code == 404


def test_a_record_changed_past_the_application_is_called_so(scene: Stage, staff: User) -> None:
    Atom.objects.filter(pk=scene.atom.pk).update(attached_to=scene.test)
    KmsSettings.objects.filter(atom=scene.atom).update(mode="byov")
    PropertiesFile.objects.filter(atom=scene.atom).delete()
    sam = client_of(staff)
    assert FORGED in sam.get(page_of(scene.atom).address(scene.atom)).content.decode()
    assert FORGED in sam.get(page_of(scene.atom).list_address(), {"q": str(scene.atom.pk)}).content.decode()
    settings = KmsSettings.objects.get()
    assert FORGED in sam.get(page_of(settings).address(settings)).content.decode()


def test_a_list_asks_the_same_however_much_it_finds(
    scene: Stage, staff: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        Node.objects.create(atom=scene.atom, state="enrolled", host_name=f"many{number}")
        request("vaults.provision_atom", account=scene.account, subject_id=scene.atom.pk, title="x", actor=scene.alice)
    sam = client_of(staff)
    for row in rows(scene):
        with django_assert_max_num_queries(20):
            page = sam.get(page_of(row).list_address(), {"q": str(scene.account.pk)})
        assert page.content.decode().count("<tr>") <= 26
    with django_assert_max_num_queries(32):  # one count for each kind of record that belongs to it
        sam.get(page_of(scene.account).address(scene.account))


# -- telling -----------------------------------------------------------------------------------------------------------


def test_each_look_is_an_audit_row_of_the_account(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for row in rows(scene):
        page = page_of(row)
        for address in (page.address(row), f"{page.list_address()}?q={row.pk}"):
            before = scene.account.audit_entries.count()
            sam.get(address)
            told = scene.account.audit_entries.order_by("-seq").first()
            assert told is not None
            assert scene.account.audit_entries.count() == before + 1, address
            assert (told.actor_id, told.type, told.action) == (staff.pk, "support", "VIEW")
            assert told.properties["record"] == page.opts.label
    assert audit.first_broken(scene.account) is None
    assert scene.cast.other.audit_entries.filter(type="support").count() == 0


def test_a_list_over_many_accounts_tells_each_once(scene: Stage, staff: User) -> None:
    accounts.add_member(scene.cast.other, scene.alice, [], actor="tests")
    client_of(staff).get(page_of(scene.account.memberships.first()).list_address(), {"q": scene.alice.email})
    for account in (scene.account, scene.cast.other):
        assert account.audit_entries.filter(type="support").count() == 1


def test_the_members_see_it_in_words(scene: Stage, staff: User) -> None:
    client_of(staff).get(page_of(scene.atom).address(scene.atom))
    page = scene.cast.client("alice").get(reverse("accounts:audit_log", args=[scene.account.code])).content.decode()
    assert "Support looked at Atom Orders Atom" in page
    assert "sam@support.example" in page
    assert "Support staff" in page


# -- the browser's rules -----------------------------------------------------------------------------------------------


def test_every_page_has_the_headers_and_nothing_inline(scene: Stage, staff: User) -> None:
    sam = client_of(staff)
    for address in addresses(scene):
        answer = sam.get(address)
        policy = "; ".join(sorted(answer.headers["Content-Security-Policy"].split("; ")))
        assert policy == "; ".join(sorted(POLICY.split("; "))), address
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "no-store" in answer.headers["Cache-Control"]
        parser = Inline()
        parser.feed(answer.content.decode())
        assert parser.found == [], address
        assert "Django" not in answer.content.decode()


@pytest.mark.parametrize("number", ["99", "abc", "-1"])
def test_a_page_that_is_none_is_404_or_the_first(scene: Stage, staff: User, number: str) -> None:
    answer = client_of(staff).get(f"/support/accounts/auditentry/?q={scene.account.code}&p={number}")
    assert answer.status_code in (200, 404)
