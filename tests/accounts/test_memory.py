"""What a process remembers outside the database: signed rows of an earlier day, and rows that were taken away, are none.

On commit b817911 each of these put a row back and won: it signed in, saw what was hidden, enrolled, or was believed at a save.
"""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import models, transaction
from django.test import Client
from django.utils import timezone

from accounts import actions as accounts
from accounts import audit, credentials, memory, rows
from accounts.memory import OVER, Memory
from accounts.models import AuditEntry, Role, Session, SupportStaff, User
from accounts.privileges import ADMINISTRATOR
from accounts.rows import RowTampered, SignedModel
from atoms import actions as atoms
from atoms.models import Atom, Environment, InstallerToken
from extensions.connections import FieldSpec, save_connection
from extensions.models import Field
from tests.accounts.earlier_rows import kept, no_grace, put_back  # noqa: F401 (a fixture)
from tests.conftest import PASSWORD, Cast, client_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def environment(cast: Cast) -> Environment:
    return atoms.create_environment(cast.account, name="Hidden", classification="PROD", actor=cast.alice)


# -- rows ---------------------------------------------------------------------------------------------------------------


def test_an_environment_from_before_it_was_limited_is_none(cast: Cast, environment: Environment) -> None:
    before = kept(environment)
    atoms.set_environment_roles(environment, [Role.objects.get(pk=ADMINISTRATOR)], actor=cast.alice)
    assert not put_back(environment, before).has_valid_signature()


def test_a_role_of_an_environment_that_was_taken_away_shows_nothing(cast: Cast, environment: Environment) -> None:
    atoms.set_environment_roles(environment, [Role.objects.get(account=cast.account)], actor=cast.alice)
    before = kept(environment)
    atoms.set_environment_roles(environment, [Role.objects.get(pk=ADMINISTRATOR)], actor=cast.alice)
    assert not put_back(environment, before).has_valid_signature()


def test_a_withdrawn_installer_token_stays_withdrawn(cast: Cast) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    token = atoms.create_installer_token(atom, minutes=30, actor=cast.alice)[0]
    before = kept(token)
    atoms.withdraw_installer_token(token, actor=cast.alice)
    assert not put_back(token, before).is_valid()


def test_what_goes_with_another_row_does_not_come_back(cast: Cast) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    token = atoms.create_installer_token(atom, minutes=30, actor=cast.alice)[0]
    rows = [(row, kept(row)) for row in (Atom.objects.get(pk=atom.pk), InstallerToken.objects.get(pk=token.pk))]
    atoms.delete_atom(atom, actor=cast.alice)
    for row, before in rows:
        assert not put_back(row, before).has_valid_signature()


@pytest.mark.parametrize("again", ["deleted", "changed"])
def test_a_field_of_an_earlier_day_is_none(cast: Cast, again: str) -> None:
    """A plain one whose place an encrypted one has by now; a component value that was given up."""
    spec = FieldSpec(None, "host", "Host", False, True, "old.example.com")
    connection = save_connection(cast.account, None, name="Orders", fields=[spec], actor=cast.alice)
    field = Field.objects.get()
    before = kept(field)
    changed = {
        "deleted": ([FieldSpec(None, "key", "Key", True, True, "")], [field.pk]),
        "changed": ([FieldSpec(field.pk, "host", "Host", False, True, "new.example.com")], []),
    }
    fields, deleted = changed[again]
    save_connection(cast.account, connection, name="Orders", fields=fields, deleted=deleted, actor=cast.alice)
    with pytest.raises(RowTampered):
        put_back(field, before).verified()


def test_support_staff_that_was_removed_is_none(cast: Cast) -> None:
    row = accounts.add_support_staff(cast.charlie)
    before = kept(row), kept(cast.charlie)
    accounts.remove_support_staff(cast.charlie)
    put_back(row, before[0])
    put_back(cast.charlie, before[1])
    assert not SupportStaff.includes(User.objects.get(pk=cast.charlie.pk))


def test_a_session_that_ended_stays_so(cast: Cast) -> None:
    """Signed out, and with the person's row of that time as well."""
    browser = client_of(cast.alice)
    assert not browser.get("/").headers.get("Location", "").startswith("/auth/")
    session, person = Session.objects.get(), kept(cast.alice)
    before = kept(session)
    cookie = browser.cookies[settings.SESSION_COOKIE_NAME].value
    browser.post("/auth/logout/")
    put_back(session, before)
    put_back(cast.alice, person)
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = cookie
    assert thief.get("/").headers["Location"].startswith("/auth/login/")


def test_a_session_of_a_person_whose_row_was_changed_is_nobodys(cast: Cast) -> None:
    """Another's address, for the moment of an act that is then told under it."""
    browser = client_of(cast.alice)
    User.objects.filter(pk=cast.alice.pk).update(email="somebody@else.example")
    assert browser.get("/").headers["Location"].startswith("/auth/login/")


# -- what is remembered -------------------------------------------------------------------------------------------------


def test_what_was_not_committed_is_not_remembered(environment: Environment) -> None:
    with transaction.atomic():
        environment.name = "Another"
        environment.save(update_fields=["name"])
        Environment.objects.get(pk=environment.pk).verified()
        transaction.set_rollback(True)
    assert Environment.objects.get(pk=environment.pk).verified().name == "Hidden"


def test_what_somebody_else_saved_is_remembered_once_it_was_read(environment: Environment) -> None:
    before = kept(environment)
    environment.name = "Another"
    environment.save(update_fields=["name"])
    memory.forget()  # another process did it
    Environment.objects.get(pk=environment.pk).verified()
    assert not put_back(environment, before).has_valid_signature()


def test_a_row_of_an_earlier_day_is_not_signed_anew(environment: Environment) -> None:
    before = kept(environment)
    environment.name = "Another"
    environment.save(update_fields=["name"])
    old = put_back(environment, before)
    old.name = "A third"
    with pytest.raises(RowTampered):
        old.save()


def test_who_loaded_a_row_before_it_was_changed_may_go_on(environment: Environment) -> None:
    """Somebody renames it while a page of it is made."""
    loaded = Environment.objects.get(pk=environment.pk)
    environment.name = "Another"
    environment.save(update_fields=["name"])
    assert loaded.has_valid_signature()


def test_only_the_row_of_a_moment_ago_is_believed_for_a_moment(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any change every earlier row was believed for two seconds, and what was saved from it was signed as the newest."""
    monkeypatch.setattr(rows, "RACE_SECONDS", 2.0)
    versions = []
    for name in ("Second", "Third"):
        versions.append(kept(environment))
        environment.name = name
        environment.save(update_fields=["name"])
    assert not put_back(environment, versions[0]).has_valid_signature()
    former = put_back(environment, versions[1])
    assert former.has_valid_signature(), "it may have been read before"
    former.name = "Fourth"
    with pytest.raises(RowTampered):
        former.save()


def test_a_row_that_is_gone_is_not_signed_anew(environment: Environment) -> None:
    """Another could take its place while it is waited for: so anybody signed in with a hash of his own (PostgreSQL)."""
    loaded = Environment.objects.get(pk=environment.pk)
    Environment.objects.filter(pk=environment.pk)._raw_delete("default")
    with pytest.raises(RowTampered):
        loaded.save(update_fields=["name"])


def test_a_forged_row_is_not_signed_even_where_the_stored_one_is_gone_or_genuine(cast: Cast) -> None:
    genuine = kept(cast.alice)
    User.objects.filter(pk=cast.alice.pk).update(factors={"totp": "of nobody"})
    loaded = User.objects.get(pk=cast.alice.pk)
    put_back(cast.alice, genuine)
    with pytest.raises(RowTampered):
        loaded.save(update_fields=["password"])


def test_what_was_saved_by_somebody_else_meanwhile_is_kept(environment: Environment) -> None:
    """A whole save changes what it changed, and no more."""
    first, second = (Environment.objects.get(pk=environment.pk) for _ in range(2))
    first.name, second.classification = "Another", "TEST"
    first.save()
    second.save()
    now = Environment.objects.get(pk=environment.pk).verified()
    assert (now.name, now.classification) == ("Another", "TEST")


def test_anothers_row_that_was_pushed_in_among_what_is_deleted_is_not_over(
    cast: Cast,
) -> None:
    atom = atoms.create_atom(cast.account, name="One", type="ATOM", environment=None, actor=cast.alice)
    token, _ = atoms.create_installer_token(atom, minutes=30, actor=cast.alice)
    pushed = atoms.create_atom(cast.other, name="Mine", type="ATOM", environment=None, actor=cast.charlie)
    before = kept(token)
    put_back(token, {"atom_id": pushed.pk})
    atoms.delete_atom(pushed, actor=cast.charlie)
    assert put_back(token, before).has_valid_signature()


def test_an_entry_of_no_process_does_not_number_the_log(cast: Cast) -> None:
    """One with the highest number that there is ended every act of the account, and stayed so when it was gone."""
    last = AuditEntry.objects.filter(account=cast.account).order_by("-seq").first()
    assert last is not None
    forged = kept(last) | {"id": uuid.uuid4(), "seq": 2**63 - 2, "signature": b"x" * 72}
    models.Model.save_base(AuditEntry(**forged), raw=True, force_insert=True)
    atoms.create_environment(cast.account, name="One", classification="TEST", actor=cast.alice)
    forged |= {"id": uuid.uuid4(), "seq": last.seq + 2}
    models.Model.save_base(AuditEntry(**forged), raw=True, force_insert=True)
    atoms.create_environment(cast.account, name="Two", classification="TEST", actor=cast.alice)
    written = AuditEntry.objects.filter(account=cast.account, message__contains="created").order_by("seq")
    assert [entry.seq for entry in written][-2:] == [last.seq + 1, last.seq + 3]
    assert audit.first_broken(cast.account) is not None


def test_a_generation_that_was_written_is_none_for_the_operators_reset(cast: Cast) -> None:
    User.objects.filter(pk=cast.alice.pk).update(generation=2**62)
    credentials.start_anew(User.objects.get(pk=cast.alice.pk), cast.alice.email, "given by the operator")
    stored = User.objects.get(pk=cast.alice.pk).verified()
    assert stored.generation < 10


def test_what_was_read_as_of_an_earlier_day_is_not_saved_over_todays(environment: Environment) -> None:
    """An old row for the moment of reading, today's again for that of saving."""
    before = kept(environment)
    environment.name = "Another"
    environment.save(update_fields=["name"])
    today = kept(environment)
    old = put_back(environment, before)
    put_back(environment, today)
    with pytest.raises(RowTampered):
        old.save()
    assert kept(environment) == today


def test_two_who_save_at_once_count_on(environment: Environment) -> None:
    first, second = (Environment.objects.get(pk=environment.pk) for _ in range(2))
    first.name, second.classification = "Another", "TEST"
    first.save(update_fields=["name"])
    second.save(update_fields=["classification"])
    now = Environment.objects.get(pk=environment.pk).verified()
    assert (now.name, now.classification, now.generation) == ("Another", "TEST", 3)


def test_every_signed_row_is_remembered_but_those_that_say_why_not() -> None:
    def every(model: type[SignedModel]) -> Iterator[type[SignedModel]]:
        for sub in model.__subclasses__():
            yield sub
            yield from every(sub)

    left_out = {model.__name__ for model in every(SignedModel) if not model.REMEMBERED}
    assert left_out == {"Operation", "ShredCertificate", "ShredProof", "Enrolment", "SecretId"}


# -- the file -----------------------------------------------------------------------------------------------------------


def test_the_highest_number_counts_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    first = Memory(tmp_path)
    for number in (3, 2, 5, 4):
        first.remember("one", number)
    assert (first.newest("one"), first.newest("two")) == (5, 0)
    assert Memory(tmp_path).newest("one") == 5
    assert (tmp_path / "seen").stat().st_mode & 0o777 == 0o600


def test_processes_of_one_directory_remember_together(tmp_path: Path) -> None:
    one, other = Memory(tmp_path), Memory(tmp_path)
    assert other.newest("row") == 0
    one.remember("row", OVER)
    assert other.newest("row") == OVER
    one.forget()
    assert (one.newest("row"), other.newest("row")) == (0, 0)


def test_without_a_directory_it_is_the_processs_own() -> None:
    alone = Memory(None)
    alone.remember("row", 2)
    assert (alone.newest("row"), Memory(None).newest("row")) == (2, 0)


def test_a_large_file_is_written_anew_without_what_would_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LARGE", 2_000)
    one, other = Memory(tmp_path), Memory(tmp_path)
    ended, lasts = int(timezone.now().timestamp()) - 5, int(timezone.now().timestamp()) + 5_000
    one.remember("until-ended", ended)
    one.remember("until-lasting", lasts)
    for number in range(1, 1_000):
        one.remember("row", number)
        other.remember("another", number)
    assert (tmp_path / "seen").stat().st_size < 12_000
    assert [one.newest(name) for name in ("row", "another", "until-lasting")] == [999, 999, lasts]
    assert Memory(tmp_path).newest("until-ended") == 0


def test_threads_and_processes_lose_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LARGE", 1_000)
    several = [Memory(tmp_path) for _ in range(3)]

    def write(at: int) -> None:
        for number in range(100):
            several[at % 3].remember(f"row-{at}-{number}", number + 1)

    threads = [threading.Thread(target=write, args=(at,)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in (*several, Memory(tmp_path)):
        assert all(one.newest(f"row-{at}-{number}") == number + 1 for at in range(6) for number in range(100))


def test_the_password_of_today_signs_in(cast: Cast) -> None:
    """Nothing of this is in anybody's way."""
    cast.alice.set_password("another horse battery")
    cast.alice.save()
    for password, expected in ((PASSWORD, 200), ("another horse battery", 302)):
        answer = Client().post("/auth/login/", {"login": cast.alice.email, "password": password})
        assert answer.status_code == expected
