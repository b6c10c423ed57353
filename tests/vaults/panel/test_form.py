"""The panel's form over HTTP, with and without script: what is saved, asked and refused, and the check before Save."""

from __future__ import annotations

import re
from typing import Any

import pytest

from atoms import actions as atoms
from operations.work import sweep
from tests.conftest import Stage
from tests.vaults.panel.panel import HTMX, OTHER, SAMPLE, TOKEN, Panel, reported, text_of
from vaults.models import KmsSettings
from vaults.panel.settings import file_of, settings_of, with_settings

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def panel(stage: Stage) -> Panel:
    return Panel(stage)


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
    from vaults.hosted.sessions import drop_tokens

    settings.VAULT_ADDR = "http://127.0.0.1:1"
    drop_tokens()
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
