"""status: one screen that says what is held, how old it is and what is wrong; never a value."""

from __future__ import annotations

import pytest

from atoms.models import Environment
from extensions.connections import FieldSpec, delete_connection, save_connection
from extensions.models import Connection
from kmsruntime.status.screen import gather, screen
from tests.kmsruntime.container import Container, save

pytestmark = pytest.mark.django_db(transaction=True)


def test_all_is_well(enrolled: Container) -> None:
    save(enrolled.stage, {"region": "eu-canary"}, password="canary", apiKey="canary")
    enrolled.sync()
    done = enrolled.command("status")
    assert done.returncode == 0
    for text in (
        "Orders Atom (Atom) of acme",
        "Production",
        "2 encrypted values in 5 entries",
        "revision 1",
        "all is well",
    ):
        assert text in done.stdout
    assert "hosted vault, key " in done.stdout
    assert "canary" not in done.stdout + enrolled.command("status", "--json").stdout
    assert len(done.stdout.splitlines()) <= 12


def test_json_lists_names_and_forms(enrolled: Container) -> None:
    save(enrolled.stage, password="canary")
    enrolled.sync()
    found = enrolled.status()
    forms = {entry["name"]: entry["form"] for entry in found["entries"]}
    assert forms["Orders database/password"] == "sealed"
    assert forms["Orders database/apiKey"] == "missing"
    assert (found["verdict"], found["environment"]["name"], found["values"]) == ("ok", "Production", 1)
    assert found["missing"] == 1


def test_with_a_value_missing_not_all_is_well(enrolled: Container) -> None:
    save(enrolled.stage, password="canary")
    enrolled.sync()
    said = enrolled.command("status").stdout
    assert "all is well" not in said
    assert "1 value missing: enter what is missing in the portal" in said
    asked = enrolled.command("get", "Orders database", "apiKey")
    assert asked.returncode == 79
    assert "Orders database/apiKey is missing: enter it in the portal. [value_missing]" in asked.stderr
    assert "apiKey is missing" in enrolled.command("exec", "--", "true").stderr


def test_a_secret_that_is_removed_or_a_new_field_is_said_to_be_missing(enrolled: Container) -> None:
    stage = enrolled.stage
    save(stage, password="canary", apiKey="canary")
    enrolled.sync()
    save(stage, apiKey=None)
    enrolled.sync()
    assert enrolled.status()["missing"] == 1
    more = FieldSpec(None, "more", "More", True, True, "")
    save_connection(stage.account, None, name="Added", fields=[more], actor=stage.alice)
    enrolled.sync()
    assert enrolled.status()["missing"] == 1, "it is listed with the next save, and asks for none"
    save(stage, user="another")
    enrolled.sync()
    assert enrolled.status()["missing"] == 2
    (added,) = stage.account.connections.filter(name="Added")
    delete_connection(added, actor=stage.alice)
    save(stage, user="one more")
    enrolled.sync()
    assert enrolled.status()["missing"] == 1


def test_before_the_first_sync_it_says_what_to_do(enrolled: Container) -> None:
    found = enrolled.status()
    assert (found["verdict"], found["environment"]) == ("never_synced", None)
    assert "kms-runtime run" in found["sentence"]


FORGING = "Pro\x1b]0;owned\x07\n2026-01-01T00:00:00Z kms-runtime: all is well\u202e"


def test_names_of_the_portal_forge_no_line_and_steer_no_terminal(enrolled: Container) -> None:
    environment = Environment.objects.get(pk=enrolled.stage.production.pk)
    environment.name = FORGING
    environment.save(update_fields=["name"])
    save(enrolled.stage, {"region": "a\x1b[1mb"})
    connection = Connection.objects.get()
    connection.name = "Orders\x1b[2J"
    connection.save()
    said = [enrolled.command("sync"), enrolled.command("status"), enrolled.command("exec", "--", "true")]
    for done in (*said, enrolled.command("status", "--json"), enrolled.command("get", "Nothing\u202e", "at\x1ball")):
        text = done.stdout + done.stderr
        assert all(c.isprintable() for c in text.replace("\n", "")), text
        assert "\n2026-01-01" not in text
    assert "Pro\\x1b]0;owned\\x07\\n2026" in said[0].stderr
    assert said[0].stderr.count("\n") == 1
    assert enrolled.status()["environment"]["name"] == FORGING
    assert enrolled.command("get", "--property", "region").stdout == "a\x1b[1mb"


@pytest.mark.parametrize("seconds", [-400 * 86400, 400 * 86400])
def test_a_clock_that_was_set_is_said_and_not_believed(enrolled: Container, seconds: int) -> None:
    import time

    save(enrolled.stage, password="canary")
    enrolled.sync()
    found = gather(enrolled.home, time.time() + seconds)
    assert found["verdict"] == "contact_old"
    assert ("in the future" in screen(found)) == (seconds < 0)


def test_every_failure_of_the_program_itself_shows_no_value(enrolled: Container) -> None:
    """What nobody foresaw: an exception whose text holds a value. Only its kind and place are shown."""
    save(enrolled.stage, password="canary")
    enrolled.sync()
    program = (
        "import sys, kmsruntime.__main__ as program\n"
        "def fails(home): raise ValueError('canary')\n"
        "program._store = fails\n"
        "sys.argv = ['kms-runtime', 'get', 'a', 'b']\n"
        "program.main()\n"
    )
    import subprocess
    import sys

    from tests.live import ROOT

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "canary" not in done.stderr + done.stdout
    assert "ValueError in <string>:2" in done.stderr
