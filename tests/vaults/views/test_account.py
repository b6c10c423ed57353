"""The page Keys asks the same number of queries, however much an account has."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from atoms import actions as atoms
from atoms.models import Node
from operations.work import sweep
from tests.conftest import Stage
from tests.kmsruntime.container import save

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = ("vaults:kms_account", "operations:operation_list", "extensions:reentry_list")


def queries(stage: Stage, page: str) -> int:
    client, url = stage.cast.client("alice"), reverse(page, args=[stage.account.code])
    client.get(url)
    with CaptureQueriesContext(connection) as found:
        assert client.get(url).status_code == 200
    return len(found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_the_same_number_of_queries_however_much_there_is(stage: Stage, page: str) -> None:
    save(stage, password="one")
    Node.objects.create(atom=stage.atom, state=Node.State.ENROLLED, host_name="first")
    few = queries(stage, page)
    for number in range(12):
        made = atoms.create_atom(
            stage.account, name=f"Atom {number}", type="ATOM", environment=stage.production, actor=stage.alice
        )
        Node.objects.create(atom=made, state=Node.State.ENROLLED, host_name=f"host {number}")
        atoms.create_environment(stage.account, name=f"Place {number}", classification="TEST", actor=stage.alice)
    sweep()
    assert queries(stage, page) == few
