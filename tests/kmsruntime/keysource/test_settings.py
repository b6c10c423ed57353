"""KMS settings that were tampered with on their way: each is refused by name, reported, and changes nothing here.

The rows of the portal's database are changed directly, as whoever holds that database could.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from atoms import actions as atoms
from atoms.models import Atom
from kmsruntime.disk import credentials
from kmsruntime.errors import EXIT_CODES
from kmsruntime.remote.portal import Portal
from operations.work import sweep
from tests.customer import CustomersVault
from tests.kmscore.byov.situations import lying, serving
from tests.kmsruntime.byov_machine import Byov
from tests.kmsruntime.container import Container, bring_your_own_vault, save
from tests.servers import free_port
from vaults.keys.provision import activate_kms
from vaults.models import ContainerReport, KmsSettings, PropertiesFile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
HELD = "held-canary"


@pytest.fixture
def byov(enrolled: Container, customers_vault: CustomersVault) -> Byov:
    """One value, sealed with the customer's vault under settings of revision 2."""
    found = Byov(enrolled, customers_vault, enrolled.stage.atom)
    save(enrolled.stage, password=HELD)
    assert found.turn_on() == 2
    assert enrolled.command("sync", env=found.environment).returncode == 0
    return found


def rows(atom: Atom) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the database says: settings and file."""
    found = [model.objects.filter(atom=atom).values().get() for model in (KmsSettings, PropertiesFile)]
    return found[0], found[1]


def put_back(atom: Atom, settings: dict[str, Any], file: dict[str, Any]) -> None:
    KmsSettings.objects.filter(atom=atom).update(**settings)
    PropertiesFile.objects.filter(atom=atom).update(**file)


def refused(byov: Byov, code: str, *words: str) -> str:
    """A sync says so, the portal hears it, and store, key and kept settings are what they were."""
    container = byov.container
    before = byov.header(), sorted(kept(container)["answers"])
    done = container.command("sync", *words, env=byov.environment)
    assert (done.returncode, done.stderr.rpartition(" ")[2]) == (EXIT_CODES["settings_refused"], f"[{code}]\n"), (
        done.stderr
    )
    after = byov.header()
    names = ("settings_revision", "source", "memory_only", "key_name")
    assert [getattr(after, name) for name in names] == [getattr(before[0], name) for name in names]
    assert sorted(kept(container)["answers"]) == before[1]
    assert (container.status()["verdict"], ContainerReport.objects.get().verdict) == (code, code)
    assert byov.get() == HELD
    return done.stderr


def kept(container: Container) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(container.home.settings.read_bytes())
    return found


# -- one row ------------------------------------------------------------------------------------------------------------


def flipped(sealed: bytes) -> bytes:
    return bytes(sealed[:-1]) + bytes([sealed[-1] ^ 1])


def exchange(settings: dict[str, Any], file: dict[str, Any]) -> None:
    """Both are sealed with the same data key."""
    assert settings["data_key_id"] == file["data_key_id"]
    settings["sealed"], file["sealed"] = file["sealed"], settings["sealed"]


TAMPERED: dict[str, tuple[Callable[[Any, Any, Any, Any], None], str]] = {
    # (settings, file, settings of revision 2, file of revision 2), both of now to be changed in place
    "a bit of the settings": (lambda s, f, *_: s.update(sealed=flipped(s["sealed"])), "settings_broken"),
    "a bit of the file": (lambda s, f, *_: f.update(sealed=flipped(f["sealed"])), "settings_broken"),
    "settings cut off": (lambda s, f, *_: s.update(sealed=s["sealed"][:-5]), "settings_broken"),
    "settings of no byte": (lambda s, f, *_: s.update(sealed=b""), "answer_invalid"),
    "a file cut off": (lambda s, f, *_: f.update(sealed=f["sealed"][:20]), "settings_broken"),
    "settings and file exchanged": (lambda s, f, *_: exchange(s, f), "settings_broken"),
    "old settings under the new number": (
        lambda s, f, old, _: s.update(sealed=old["sealed"], data_key_id=old["data_key_id"]), "settings_broken"
    ),
    "settings of nobody under the new number": (lambda s, f, *_: s.update(sealed=None, data_key_id=None), "answer_invalid"),
    "the old file as it was": (
        lambda s, f, _, old: f.update(sealed=old["sealed"], data_key_id=old["data_key_id"], revision=2), "file_swapped"
    ),
    "the old file under the new number": (
        lambda s, f, _, old: f.update(sealed=old["sealed"], data_key_id=old["data_key_id"]), "file_swapped"
    ),
    "the old file's content": (lambda s, f, _, old: f.update(sealed=old["sealed"]), "settings_broken"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_settings_are_refused_by_name(byov: Byov, name: str) -> None:
    change, code = TAMPERED[name]
    atom, old = byov.atom, rows(byov.atom)
    assert byov.turn_on(wrapped=True) == 3
    genuine, (settings, file) = rows(atom), rows(atom)
    change(settings, file, *old)
    assert (settings, file) != genuine
    put_back(atom, settings, file)
    refused(byov, code)
    put_back(atom, *genuine)  # and the genuine ones are taken
    assert byov.container.command("sync", env=byov.environment).returncode == 0
    assert byov.is_sealed_for(3, mode="byov", wrapped=True)


def test_a_file_that_is_gone_is_refused(byov: Byov) -> None:
    byov.turn_on()
    PropertiesFile.objects.all().delete()
    refused(byov, "file_swapped")


def test_values_go_on_arriving_while_settings_are_refused(byov: Byov) -> None:
    byov.turn_on(wrapped=True)
    KmsSettings.objects.update(sealed=b"x" * 80)
    save(byov.container.stage, apiKey="arrives")
    refused(byov, "settings_broken")
    assert byov.get("apiKey") == "arrives"


def test_columns_beside_the_seal_change_nothing(byov: Byov) -> None:
    """They are what people are shown; a container obeys what is sealed."""
    byov.turn_on(wrapped=True)
    KmsSettings.objects.update(mode="hosted", wrapped=False)
    assert byov.container.command("sync", env=byov.environment).returncode == 0
    assert byov.is_sealed_for(3, mode="byov", wrapped=True)


# -- only announced -----------------------------------------------------------------------------------------------------


@contextmanager
def announcing(container: Container, revision: int) -> Iterator[None]:
    """A portal that names this revision of the settings when it delivers; the settings themselves come as they are."""

    def lie(body: bytes) -> bytes:
        return orjson.dumps(orjson.loads(body) | {"settings_revision": revision})

    config = container.home.read_config()
    with lying(config.portal, "/sync?", lie) as address:
        container.home.write_config(replace(config, portal=address))
        yield
    container.home.write_config(config)


@pytest.mark.parametrize("number", [0, 1, 7, 2**31 - 1])
def test_a_number_that_came_without_settings_is_held_against_nobody(byov: Byov, number: int) -> None:
    """Higher or lower than the truth: the settings themselves say which they are."""
    container = byov.container
    save(container.stage, apiKey="new")
    with announcing(container, number):
        assert container.command("sync", env=byov.environment).returncode == 0
    for words in (("sync",), ("sync", "--accept-restore"), ("sync",), ("check",)):
        done = container.command(*words, env=byov.environment)
        assert done.returncode == 0, done.stderr
    assert byov.is_sealed_for(2, mode="byov")
    assert byov.report().verdict == "ok"


@pytest.mark.parametrize("holds", [True, False])
def test_where_nobody_ever_saved_settings_it_is_held_against_nobody_either(enrolled: Container, holds: bool) -> None:
    save(enrolled.stage, password="one")
    if holds:
        assert enrolled.command("sync").returncode == 0
        save(enrolled.stage, password="two")
    with announcing(enrolled, 7):
        assert enrolled.command("sync").returncode == 0
    assert [enrolled.command(*words).returncode for words in (("sync",), ("sync", "--accept-restore"))] == [0, 0]
    assert enrolled.values()["Orders database/password"] == ("two" if holds else "one")
    assert enrolled.status()["settings_revision"] == 1


def test_settings_that_were_announced_and_never_taken_jam_nothing(enrolled: Container) -> None:
    """A row that a writer at the database puts in, and takes away again; nobody sealed anything."""
    save(enrolled.stage, password="one")
    assert enrolled.command("sync").returncode == 0
    save(enrolled.stage, password="two")
    KmsSettings.objects.bulk_create([KmsSettings(atom=enrolled.stage.atom, revision=7)])
    done = enrolled.command("sync")
    assert (done.returncode, "[answer_invalid]" in done.stderr) == (84, True)
    KmsSettings.objects.all().delete()
    assert [enrolled.command(*words).returncode for words in (("sync",), ("sync", "--accept-restore"))] == [0, 0]
    assert enrolled.status()["verdict"] == "ok"


# -- of somebody else ---------------------------------------------------------------------------------------------------


def test_settings_of_another_atom_are_refused(byov: Byov) -> None:
    other = byov.container.stage.second
    bring_your_own_vault(byov.container.stage, other, byov.file(token="hvs.of-another"))
    byov.turn_on()
    taken(byov, other)
    refused(byov, "settings_key_missing")


def test_settings_of_another_account_are_refused(byov: Byov) -> None:
    cast = byov.container.stage.cast
    activate_kms(cast.other, actor="tests")
    environment = atoms.create_environment(cast.other, name="Theirs", classification="PROD", actor=cast.charlie)
    other = atoms.create_atom(cast.other, name="Their Atom", type="ATOM", environment=environment, actor=cast.charlie)
    sweep()
    bring_your_own_vault(byov.container.stage, other, byov.file(token="hvs.of-another"))
    byov.turn_on()
    taken(byov, other)
    refused(byov, "settings_key_missing")


def taken(byov: Byov, other: Atom) -> None:
    """Another Atom's settings and file stand in this one's rows, under this one's number."""
    (theirs, their_file), (ours, _) = rows(other), rows(byov.atom)
    settings = {name: theirs[name] for name in ("sealed", "data_key_id")} | {"revision": ours["revision"]}
    put_back(byov.atom, settings, {name: their_file[name] for name in ("sealed", "data_key_id", "revision")})


def test_an_answer_that_names_another_atom_is_refused(byov: Byov) -> None:
    """A portal that hands out another Atom's answer as it is."""
    container = byov.container
    address = container.home.read_config().portal
    answer = Portal(address).get("settings", credentials.read_atom(container.home).settings_token).document
    body = orjson.dumps(answer | {"atom": str(container.stage.second.pk), "revision": 3})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def answers(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head + body)

    with serving(answers) as port:
        container.home.write_config(replace(container.home.read_config(), portal=f"http://127.0.0.1:{port}"))
        done = container.command("check", env=byov.environment)
    assert (done.returncode, "[settings_foreign]" in done.stderr) == (84, True)


# -- rolled back --------------------------------------------------------------------------------------------------------


def test_settings_rolled_back_are_refused_until_a_restore_is_accepted_once(byov: Byov) -> None:
    container, old = byov.container, rows(byov.atom)
    byov.turn_off()
    assert container.command("sync", env=byov.environment).returncode == 0
    assert byov.is_sealed_for(3, mode="hosted")
    put_back(byov.atom, *old)
    assert "--accept-restore" in refused(byov, "settings_lower")
    assert "[settings_lower]" in container.command("check", env=byov.environment).stderr
    assert container.command("sync", "--accept-restore", env=byov.environment).returncode == 0
    assert byov.is_sealed_for(2, mode="byov")
    assert container.command("sync", env=byov.environment).returncode == 0
    KmsSettings.objects.filter(atom=byov.atom).update(revision=1, sealed=None, data_key=None)
    refused(byov, "settings_lower")


def test_a_restore_that_cannot_be_followed_yet_closes_no_store(byov: Byov) -> None:
    container, old, token = byov.container, rows(byov.atom), byov.token
    byov.turn_on(wrapped=True)
    assert container.command("sync", env=byov.environment).returncode == 0
    byov.customer.revoke(token)
    put_back(byov.atom, *old)
    assert container.command("sync", "--accept-restore", env=byov.environment).returncode == 0
    assert (container.status()["verdict"], byov.get()) == ("switch_pending", HELD)


# -- the portal is down -------------------------------------------------------------------------------------------------


def without_portal(byov: Byov) -> None:
    home = byov.container.home
    home.write_config(replace(home.read_config(), portal=f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_kept_is_used_while_the_portal_is_down(byov: Byov, wrapped: bool) -> None:
    container = byov.container
    revision = byov.turn_on(wrapped=wrapped)
    assert container.command("sync", env=byov.environment).returncode == 0
    without_portal(byov)
    assert byov.get() == HELD
    checked = container.command("check", "--json", env=byov.environment)
    assert (checked.returncode, json.loads(checked.stdout)["settings_revision"]) == (0, revision)
    done = container.command("sync", env=byov.environment)
    assert (done.returncode, "[portal_unreachable]" in done.stderr) == (70, True)
    assert byov.get() == HELD


def test_kept_settings_that_were_lost_are_fetched_again(byov: Byov) -> None:
    container = byov.container
    byov.turn_on(wrapped=True)
    assert container.command("sync", env=byov.environment).returncode == 0
    container.home.settings.unlink()
    assert byov.get() == HELD
    assert not container.home.settings.exists(), "get writes nothing beside a run"
    assert container.command("sync", env=byov.environment).returncode == 0
    assert sorted(kept(container)["answers"]) == [str(byov.header().settings_revision)]
    container.home.settings.unlink()
    without_portal(byov)
    done = container.command("get", "Orders database", "password", env=byov.environment)
    assert (done.returncode, "[portal_unreachable]" in done.stderr) == (70, True)


def test_a_damaged_file_of_kept_settings_is_named(byov: Byov) -> None:
    container = byov.container
    byov.turn_on(wrapped=True)
    assert container.command("sync", env=byov.environment).returncode == 0
    content = container.home.settings.read_bytes()
    for damaged, code, exit_code in (
        (content[:-20], "file_damaged", 76),
        (content.replace(b'"sealed":"', b'"sealed":"AAAA'), "settings_broken", 84),
    ):
        container.home.settings.write_bytes(damaged)
        done = container.command("get", "Orders database", "password", env=byov.environment)
        assert (done.returncode, f"[{code}]" in done.stderr) == (exit_code, True), done.stderr
    container.home.settings.write_bytes(content)
    assert byov.get() == HELD
