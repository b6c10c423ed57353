"""The audit log: a chain in which every edit shows."""

import contextlib
import threading
import uuid
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, connection, transaction

from accounts import audit
from accounts.models import AuditEntry
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres, pytest.mark.owner]


def write(cast: Cast, count: int) -> None:
    for number in range(count):
        with transaction.atomic():
            audit.record(cast.account, actor=cast.alice, type="test", action="ADD", message=f"entry {number}")


def test_an_untouched_chain_holds(cast: Cast) -> None:
    write(cast, 5)
    assert audit.first_broken(cast.account) is None


@pytest.mark.parametrize(
    "change",
    [
        {"message": "another"},
        {"actor_name": "mallory@example.com"},
        {"action": "DELETE"},
        {"properties": {"a": 1}},
        {"subject_id": "x"},
        {"previous": b"\1" * 32},
        {"actor_id": uuid.UUID(int=1)},
        {"id": uuid.UUID(int=2)},
        {"signature": b"\1" * 72},
    ],
)
def test_an_edited_entry_is_named(cast: Cast, change: dict[str, object]) -> None:
    write(cast, 5)
    AuditEntry.objects.filter(account=cast.account, seq=3).update(**change)
    assert audit.first_broken(cast.account) == 3


def test_a_deleted_entry_is_named(cast: Cast) -> None:
    write(cast, 5)
    AuditEntry.objects.filter(account=cast.account, seq=4).delete()
    assert audit.first_broken(cast.account) == 4


def test_swapped_entries_are_named(cast: Cast) -> None:
    write(cast, 5)
    AuditEntry.objects.filter(account=cast.account, seq=3).update(seq=100)
    AuditEntry.objects.filter(account=cast.account, seq=4).update(seq=3)
    AuditEntry.objects.filter(account=cast.account, seq=100).update(seq=4)
    assert audit.first_broken(cast.account) == 3


def verified(*words: str) -> str:
    out = StringIO()
    call_command("verify_audit", *words, stdout=out)
    return out.getvalue()


def test_the_command_names_what_is_broken(cast: Cast) -> None:
    write(cast, 5)
    lines = verified().splitlines()
    assert {line.split(":")[0] for line in lines} == {cast.account.code, cast.other.code}
    assert len(verified(cast.other.code).splitlines()) == 1
    AuditEntry.objects.filter(account=cast.account, seq=3).update(message="another")
    assert verified(cast.other.code) in "\n".join(lines) + "\n"
    with pytest.raises(CommandError, match=f"{cast.account.code}: entry 3 was changed") as caught:
        verified()
    assert caught.value.returncode == 1


def test_a_cut_off_end_is_found_with_what_was_kept_elsewhere(cast: Cast) -> None:
    write(cast, 5)
    kept = verified(cast.account.code).strip()
    write(cast, 2)
    assert verified("--expect", kept)
    newest = AuditEntry.objects.filter(account=cast.account).order_by("-seq")
    AuditEntry.objects.filter(pk__in=[entry.pk for entry in newest[:3]]).delete()
    assert verified(cast.account.code), "the chain alone does not show it"
    for count in (0, 3):  # cut off, and grown again over the gap
        write(cast, count)
        with pytest.raises(CommandError, match="newer entries were removed"):
            verified("--expect", kept)


@pytest.mark.parametrize("words", [("nobody-A1B2C3",), ("--expect", "acme"), ("--expect", "acme-A1B2C3:x:y")])
def test_the_command_understands_or_says_so(cast: Cast, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match="no account|not of the form"):
        verified(*words)


def test_an_entry_outside_a_transaction_is_refused(cast: Cast) -> None:
    with pytest.raises(RuntimeError):
        audit.record(cast.account, actor=cast.alice, type="test", action="ADD", message="loose")


def test_an_act_that_fails_leaves_no_entry(cast: Cast) -> None:
    before = AuditEntry.objects.count()

    def act() -> None:
        with transaction.atomic():
            audit.record(cast.account, actor=cast.alice, type="test", action="ADD", message="undone")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert AuditEntry.objects.count() == before


def test_writers_at_once_do_not_fork_the_chain(cast: Cast) -> None:
    def run() -> None:
        try:
            write(cast, 10)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audit.first_broken(cast.account) is None
    assert AuditEntry.objects.filter(account=cast.account, type="test").count() == 40


@pytest.mark.parametrize(
    "properties", [{"a": 10**30}, {"a": "\ud800"}, [], "text"], ids=["number", "surrogate", "list", "text"]
)
def test_whatever_stands_in_an_entry_is_an_edit_and_stops_nothing(cast: Cast, properties: object) -> None:
    """On commit b5f6031 the check ended in a traceback, and every act of the account was an error of the server."""
    write(cast, 2)
    with contextlib.suppress(DataError, UnicodeEncodeError):
        AuditEntry.objects.filter(account=cast.account, seq=2).update(properties=properties)
        assert audit.first_broken(cast.account) == 2
    write(cast, 1)
    cast.client("alice").get(f"/accounts/{cast.account.code}/audit/")


def test_an_edited_entry_is_marked_on_the_page(cast: Cast) -> None:
    write(cast, 1)
    page = f"/accounts/{cast.account.code}/audit/"
    assert "Changed past the portal" not in cast.client("alice").get(page).content.decode()
    AuditEntry.objects.filter(account=cast.account, type="test").update(message="another")
    assert cast.client("alice").get(page).content.decode().count("Changed past the portal") == 1
