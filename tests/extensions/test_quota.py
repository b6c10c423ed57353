"""An account has no more than it may have, also when many ask at once."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection

from accounts import quota
from atoms.actions import create_atom, create_environment
from extensions.connections import save_connection
from kmscore.refused import Refused
from tests.conftest import Stage

MOST, THREADS = 4, 8
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def environment(stage: Stage, name: str) -> None:
    create_environment(stage.account, name=name, classification="TEST", actor=stage.alice)


def atom(stage: Stage, name: str) -> None:
    create_atom(stage.account, name=name, type="ATOM", environment=None, actor=stage.alice)


def connection_of(stage: Stage, name: str) -> None:
    save_connection(stage.account, None, name=name, fields=[], actor=stage.alice)


@pytest.mark.parametrize(
    ("noun", "rows", "make"),
    [
        ("environments", "environments", environment),
        ("Atoms", "atoms", atom),
        ("connections", "connections", connection_of),
    ],
)
def test_a_quota_holds_when_many_ask_at_once(
    stage: Stage, settings: Any, noun: str, rows: str, make: Callable[[Stage, str], None]
) -> None:
    """Once each of them counted before any of the others had written."""
    settings.QUOTAS = settings.QUOTAS | {noun: MOST}
    together = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        together.wait()
        try:
            make(stage, f"asked {number}")
        except (Refused, OperationalError):  # SQLite's busy timeout is one
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert getattr(stage.account, rows).count() <= MOST
    for number in range(MOST - getattr(stage.account, rows).count()):
        make(stage, f"after {number}")
    with pytest.raises(Refused, match=f"at most {MOST} {noun}"):
        make(stage, "one more")


def test_a_quota_is_asked_in_the_transaction_it_holds_for(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="in the transaction"):
        quota.check(stage.account, "Atoms", stage.account.atoms.all())
