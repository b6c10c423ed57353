"""What is said of an Atom whose machines were all revoked: it had some, none is enrolled now, and since when."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from atoms.models import Atom, Node, NodeCredential, token_hash
from atoms.revocation import revoke_all_nodes, revoke_node
from tests.conftest import Stage
from vaults.models import ContainerReport

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def enrolled(atom: Atom, name: str = "host1") -> Node:
    now = timezone.now()
    node = Node.objects.create(atom=atom, host_name=name, state=Node.State.ENROLLED, enrolled_at=now, last_seen_at=now)
    for kind in NodeCredential.Kind.values:
        NodeCredential(
            pk=NodeCredential.id_of(node.pk, kind),
            node=node,
            atom=atom,
            account_id=atom.account_id,
            kind=kind,
            token_hash=token_hash(str(uuid.uuid4())),
        ).save(force_insert=True)
    return node


def page(stage: Stage, route: str) -> str:
    answer = stage.cast.client("alice").get(reverse(route, args=[stage.account.code, stage.atom.pk]))
    return " ".join(answer.content.decode().split())


def status(atom: Atom) -> str:
    return str(Atom.objects.get(pk=atom.pk).status())


def test_an_atom_that_lost_its_machine_is_revoked_and_not_never_seen(stage: Stage) -> None:
    assert status(stage.atom) == "UNKNOWN"
    revoke_node(enrolled(stage.atom), actor=stage.alice)
    assert status(stage.atom) == "REVOKED"
    for route in ("atoms:atom_detail", "vaults:kms_panel"):
        text = page(stage, route)
        assert "No container is enrolled now" in text, route
        for untrue in ("Never seen</span>", "No container has enrolled", "No container yet"):
            assert untrue not in text, route
    tree = stage.cast.client("alice").get(reverse("atoms:atom_tree", args=[stage.account.code]), {"status": "REVOKED"})
    assert "Orders Atom" in tree.content.decode()
    assert "Second Atom" not in tree.content.decode()


def test_the_installation_page_says_that_it_enrols_again_in_an_empty_directory(
    stage: Stage, tmp_path: Path, settings: Any
) -> None:
    (tmp_path / "kmsportal_runtime-0.0.0-py3-none-any.whl").write_bytes(b"stands for the wheel")
    settings.RUNTIME_WHEELS = tmp_path
    install, said = reverse("atoms:atom_install", args=[stage.account.code, stage.atom.pk]), "needs an empty directory"
    assert said not in stage.cast.client("alice").post(install, {"minutes": 60}, follow=True).content.decode()
    revoke_all_nodes(enrolled(stage.atom).atom, actor=stage.alice)
    assert said in stage.cast.client("alice").post(install, {"minutes": 60}, follow=True).content.decode()


def test_a_machine_that_is_left_or_came_back_is_what_counts(stage: Stage) -> None:
    gone = enrolled(stage.atom, "gone")
    enrolled(stage.atom, "left")
    revoke_node(gone, actor=stage.alice)
    assert status(stage.atom) == "ONLINE"
    revoke_all_nodes(stage.atom, actor=stage.alice)
    assert status(stage.atom) == "REVOKED"
    enrolled(stage.atom, "back")
    assert status(stage.atom) == "ONLINE"


def test_a_machine_that_never_finished_enrolling_is_none_that_was_revoked(stage: Stage) -> None:
    revoke_node(Node.objects.create(atom=stage.atom, host_name="half"), actor=stage.alice)
    assert status(stage.atom) == "UNKNOWN"


def test_the_tree_asks_no_query_more_for_it(stage: Stage) -> None:
    alice, tree = stage.cast.client("alice"), reverse("atoms:atom_tree", args=[stage.account.code])

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert alice.get(tree).status_code == 200
        return len(asked)

    before = queries()
    for atom in (stage.atom, stage.second):
        revoke_node(enrolled(atom), actor=stage.alice)
    assert queries() == before


def test_a_container_that_holds_plain_entries_only_is_not_said_to_hold_nothing(stage: Stage) -> None:
    silent, plain = enrolled(stage.atom, "silent"), enrolled(stage.atom, "plain")
    ContainerReport.objects.create(node=plain, reported_at=timezone.now(), values=0)
    for route in ("atoms:atom_detach", "atoms:atom_attach", "atoms:atom_delete"):
        text = page(stage, route)
        assert f'<span class="mono">{plain}</span> holds no encrypted values by its last report' in text, route
        assert f'<span class="mono">{silent}</span> never reported that it holds anything' in text, route
