"""The runtime's main job against the real portal and the real vault, through its command line."""

import stat
import threading

import pytest
from django.db import connection

from tests.kmsruntime.container import Container, save
from vaults.models import ContainerReport

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_value_saved_in_the_portal_reaches_a_program(enrolled: Container) -> None:
    save(enrolled.stage, {"region": "eu"}, password="s3cret-canary ü", user="orders")
    done = enrolled.command("sync")
    assert done.returncode == 0, done.stderr
    assert enrolled.command("get", "Orders database", "password").stdout == "s3cret-canary ü"
    given = enrolled.command("exec", "--", "env").stdout.splitlines()
    assert "ORDERS_DATABASE_PASSWORD=s3cret-canary ü" in given
    assert "ORDERS_DATABASE_USER=orders" in given
    assert "PROPERTY_REGION=eu" in given
    report = ContainerReport.objects.get()
    assert (report.verdict, report.revision, report.values, report.source) == ("ok", 1, 1, "hosted")
    assert (report.key_name, report.key_version) == (str(enrolled.stage.atom.pk), 1)


def test_nothing_in_the_directory_can_be_read_by_others_or_shows_a_value(enrolled: Container) -> None:
    save(enrolled.stage, password="canary-at-rest", user="plain-canary-at-rest")
    enrolled.sync()
    assert stat.S_IMODE(enrolled.directory.stat().st_mode) == 0o700
    for path in enrolled.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert b"canary-at-rest" not in path.read_bytes(), path


def test_each_sync_seals_everything_under_a_new_key_and_removes_the_old_one(enrolled: Container) -> None:
    save(enrolled.stage, password="one", apiKey="two")
    enrolled.sync()
    first, keys = enrolled.home.store.read_bytes(), list(enrolled.directory.glob("at-rest-key.*"))
    save(enrolled.stage, apiKey="three")
    assert "1 of them new" in enrolled.sync().sentence  # the other value is not sent again
    assert enrolled.home.store.read_bytes() != first
    assert len(keys) == 1
    assert keys != list(enrolled.directory.glob("at-rest-key.*"))
    assert len(list(enrolled.directory.glob("at-rest-key.*"))) == 1
    assert enrolled.values()["Orders database/password"] == "one"
    assert enrolled.values()["Orders database/apiKey"] == "three"


def test_nothing_new_is_said_and_changes_nothing(enrolled: Container) -> None:
    save(enrolled.stage, password="one")
    enrolled.sync()
    before = enrolled.home.store.read_bytes()
    assert enrolled.sync().result == "unchanged"
    assert enrolled.home.store.read_bytes() == before


def test_a_value_that_was_cleared_leaves_the_container(enrolled: Container) -> None:
    save(enrolled.stage, {"region": "eu"}, password="one", apiKey="two")
    enrolled.sync()
    save(enrolled.stage, {"region": None}, apiKey=None)
    enrolled.sync()
    values = enrolled.values()
    labels = {"Orders database/host", "Orders database/user", "Orders database/password"}  # host and user have defaults
    assert values.pop("Orders database/apiKey") == "missing"
    assert set(values) == labels


def test_saves_that_cross_a_sync_are_no_trouble(enrolled: Container) -> None:
    """The portal reads manifest and values one after the other; a save in between must not look like tampering."""

    def keep_saving() -> None:
        try:
            for number in range(40):
                save(enrolled.stage, password=f"password {number}", apiKey=f"key {number}")
        finally:
            connection.close()

    saving = threading.Thread(target=keep_saving)
    saving.start()
    synchroniser, synced = enrolled.synchroniser(), 0
    while saving.is_alive():
        synchroniser.sync()
        synced += 1
        values = enrolled.values()
        assert (
            values.get("Orders database/password", "").split()[1:]
            == values.get("Orders database/apiKey", "").split()[1:]
        )
    synchroniser.sync()
    assert (enrolled.values()["Orders database/password"], synced > 0) == ("password 39", True)


def test_an_environment_that_holds_nothing_is_fine(enrolled: Container) -> None:
    assert enrolled.sync().result == "updated"
    assert enrolled.sync().result == "unchanged"
    assert enrolled.status()["verdict"] == "ok"
    done = enrolled.command("get", "Orders database", "password")
    assert (done.returncode, "[value_missing]" in done.stderr) == (79, True)
