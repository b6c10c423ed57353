"""The self-check: "works" is proved by a value that was opened the whole way, and by nothing else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from atoms import actions as atoms
from atoms.models import Node, NodeCredential, token_hash
from kmscore.refused import Refused
from kmscore.sealed import selfcheck as formats
from kmscore.sealed.selfcheck import selfcheck_place
from kmscore.vaultclient.mounts import OF_ENVIRONMENTS
from tests.by_hand import add_to_document
from tests.conftest import HostedVault, Stage
from tests.kmsruntime.container import Container
from tests.live import LivePortal
from vaults import selfcheck
from vaults.models import DataKey, KmsAccount, Recipient, SelfCheckResult, SelfCheckValue
from vaults.selfcheck import current_value

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/atom/v1/"
TOKEN = "a token of the tests"  # noqa: S105


@pytest.fixture
def node(stage: Stage) -> Node:
    made = Node.objects.create(
        atom=stage.atom, state=Node.State.ENROLLED, host_name="host1", enrolled_at=timezone.now() - timedelta(days=1)
    )
    credential = NodeCredential(node=made, atom=stage.atom, account=stage.account, kind="sync")
    credential.token_hash = token_hash(TOKEN)
    credential.save(force_insert=True)
    return made


def post(path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return Client().post(API + path, body or {}, content_type="application/json", headers=headers)


def opened(stage: Stage, vault: HostedVault, told: dict[str, Any]) -> bytes:
    """The value, as only a login of the environment could open it (here with everything the vault has)."""
    import base64

    from kmscore.sealed.envelope import open_sealed

    environment = str(stage.production.pk)
    document = vault.root.read_document("datakeys", f"{environment}/{told['document']}")
    key = vault.root.unwrap_data_key("intransit", environment, document[told["data_key"]])
    place = selfcheck_place(str(stage.account.pk), environment, told["revision"], told["data_key"])
    return open_sealed(key, base64.b64decode(told["sealed"]), place)


def right_answer(stage: Stage, vault: HostedVault, node: Node, told: dict[str, Any]) -> dict[str, Any]:
    value = opened(stage, vault, told)
    given = formats.answer(formats.digest(value), bytes.fromhex(told["challenge"]), str(node.pk))
    return {"proof": given.hex(), "revision": told["revision"]}


def test_who_opened_it_is_proved(stage: Stage, node: Node, hosted_vault: HostedVault) -> None:
    told = post("selfcheck").json()
    assert told["environment"] == str(stage.production.pk)
    assert post("selfcheck/answer", right_answer(stage, hosted_vault, node, told)).status_code == 204
    assert SelfCheckResult.objects.get(node=node).proved_at is not None


def test_a_challenge_counts_once(stage: Stage, node: Node, hosted_vault: HostedVault) -> None:
    answer = right_answer(stage, hosted_vault, node, post("selfcheck").json())
    assert [post("selfcheck/answer", answer).status_code for _ in range(2)] == [204, 409]
    post("selfcheck")
    assert post("selfcheck/answer", answer).json()["code"] == "proof_wrong"  # of the challenge before


def test_a_late_answer_proves_nothing(stage: Stage, node: Node, hosted_vault: HostedVault) -> None:
    answer = right_answer(stage, hosted_vault, node, post("selfcheck").json())
    SelfCheckResult.objects.update(asked_at=timezone.now() - timedelta(minutes=6))
    assert post("selfcheck/answer", answer).json()["code"] == "challenge_unknown"
    assert SelfCheckResult.objects.get().proved_at is None


def test_another_nodes_answer_and_a_guess_prove_nothing(stage: Stage, node: Node, hosted_vault: HostedVault) -> None:
    told = post("selfcheck").json()
    other = Node.objects.create(atom=stage.second, state=Node.State.ENROLLED)
    assert post("selfcheck/answer", right_answer(stage, hosted_vault, other, told)).json()["code"] == "proof_wrong"
    row = SelfCheckResult.objects.get(node=node)
    assert (row.proved_at, row.code) == (None, "proof_wrong")
    post("selfcheck")
    assert post("selfcheck/answer", {"proof": "00" * 32, "revision": told["revision"]}).status_code == 409


def test_failing_is_told_since_when_and_until_it_works_again(
    stage: Stage, node: Node, hosted_vault: HostedVault
) -> None:
    since = []
    for code in ("data_key_missing", "login_refused"):
        post("selfcheck")
        assert post("selfcheck/answer", {"code": code}).status_code == 204
        since.append(SelfCheckResult.objects.get().failed_at)
    assert since[0] == since[1]
    Node.objects.filter(pk=node.pk).update(last_seen_at=timezone.now())
    stage.atom.refresh_from_db()
    page = f"/accounts/{stage.account.code}/atoms/{stage.atom.pk}/kms/"
    text = stage.cast.client("alice").get(page).content.decode()
    assert "Failing since" in text
    assert "does not accept this container" in text
    assert text.count(">Failing<") > 1, "the tree too"
    assert (
        post("selfcheck/answer", right_answer(stage, hosted_vault, node, post("selfcheck").json())).status_code == 204
    )
    row = SelfCheckResult.objects.get()
    assert (row.code, row.failed_at) == ("", None)
    text = stage.cast.client("alice").get(page).content.decode()
    assert "A test value sealed by the portal was opened by this container." in text
    assert "proved after" in text


@pytest.mark.parametrize("body", [{}, {"proof": "zz"}, {"proof": "00" * 32, "code": "both"}, {"code": "<b>"}])
def test_an_answer_that_is_none_is_422(node: Node, body: dict[str, Any]) -> None:
    post("selfcheck")
    assert post("selfcheck/answer", body).status_code == 422


def test_the_portal_keeps_no_plaintext_of_it(stage: Stage, node: Node, hosted_vault: HostedVault) -> None:
    value = opened(stage, hosted_vault, post("selfcheck").json())
    row = SelfCheckValue.objects.get()
    assert value not in bytes(row.sealed or b"") + bytes(row.digest)
    assert bytes(row.digest) == formats.digest(value)


def test_it_is_sealed_once_a_day_and_after_a_rotation_or_a_loss(stage: Stage) -> None:
    def sealed() -> int:
        return current_value(stage.production).revision

    assert [sealed(), sealed()] == [1, 1]
    SelfCheckValue.objects.update(sealed_at=timezone.now() - timedelta(days=1, seconds=1))
    assert [sealed(), sealed()] == [2, 2]
    Recipient.objects.filter(pk=stage.production.pk).update(rotated_at=timezone.now())
    assert [sealed(), sealed()] == [3, 3]
    DataKey.objects.filter(pk=SelfCheckValue.objects.get().data_key_id).update(lost_at=timezone.now())
    assert [sealed(), sealed()] == [4, 4]
    assert DataKey.objects.filter(recipient=stage.production.pk).count() == 4


def test_many_that_ask_at_once_make_one(stage: Stage) -> None:
    barrier, got = threading.Barrier(6), list[str]()

    def ask() -> None:
        barrier.wait()
        try:
            got.append(str(current_value(stage.production).revision))
        except Refused as refused:
            got.append(refused.code)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(got) <= {"1", "selfcheck_not_ready"}
    assert "1" in got
    assert DataKey.objects.filter(recipient=stage.production.pk).count() == 1


def test_a_claim_whose_process_died_is_taken_over(stage: Stage) -> None:
    SelfCheckValue.objects.create(environment=stage.production, claimed_at=timezone.now())
    with pytest.raises(Refused, match="being sealed"):
        current_value(stage.production)
    SelfCheckValue.objects.update(claimed_at=timezone.now() - timedelta(seconds=31))
    assert current_value(stage.production).revision == 1


def test_an_account_without_kms_and_an_unattached_atom_have_none(stage: Stage, node: Node) -> None:
    atoms.detach(stage.atom, actor=stage.alice)
    assert post("selfcheck").json()["code"] == "unattached"
    KmsAccount.objects.all().delete()
    assert post("selfcheck").json()["code"] == "kms_inactive"
    assert not SelfCheckValue.objects.exists()


def test_a_proof_for_a_former_environment_counts_no_more(stage: Stage, node: Node) -> None:
    SelfCheckResult.objects.create(
        node=node, challenge=b"", asked_at=timezone.now(), proved_at=timezone.now(), environment=stage.test
    )
    line = selfcheck.selfcheck_line(Node.objects.select_related("selfcheck").get(pk=node.pk), stage.production.pk)
    assert line is not None
    assert line.tone != "ok"
    assert selfcheck.unproved(Node.objects.filter(state=Node.State.ENROLLED)).count() == 1


def test_a_container_that_is_online_and_proves_nothing_is_a_warning_after_15_minutes(stage: Stage, node: Node) -> None:
    node.last_seen_at = timezone.now()
    proved = SelfCheckResult(node=node, environment=stage.production, asked_at=timezone.now())
    tones = []
    for minutes in (14, 16):
        proved.proved_at = timezone.now() - timedelta(minutes=minutes)
        line = selfcheck.selfcheck_line(node, stage.production.pk)
        assert line is not None
        tones.append(line.tone)
    assert tones == ["ok", "warn"]


def test_the_accounts_card_counts_and_names_in_constant_queries(stage: Stage) -> None:
    alice, page, counted = stage.cast.client("alice"), f"/accounts/{stage.account.code}/kms/", []
    for number in (2, 9):
        for row in range(number):
            made = Node.objects.create(atom=stage.atom, state=Node.State.ENROLLED, host_name=f"host{row}")
            if not row:
                SelfCheckResult.objects.create(
                    node=made,
                    challenge=b"",
                    asked_at=timezone.now(),
                    proved_at=timezone.now(),
                    environment=stage.production,
                )
        with CaptureQueriesContext(connection) as queries:
            text = alice.get(page, headers={"hx-request": "true"}).content.decode()
        counted.append(len(queries))
    assert "2 of 11 containers opened a test value within 10 minutes" in text
    assert counted[0] == counted[1]


# -- with a real container ---------------------------------------------------------------------------------------------


def test_a_real_container_proves_it_at_its_first_sync(portal: LivePortal, tmp_path: Any) -> None:
    container = Container(portal, tmp_path / "container").enrol()
    done = container.command("sync")
    assert done.returncode == 0
    first = SelfCheckResult.objects.get()
    assert first.proved_at is not None
    container.command("sync")  # within five minutes: not asked again
    assert SelfCheckResult.objects.get().asked_at == first.asked_at


def test_a_container_says_why_it_cannot(portal: LivePortal, hosted_vault: HostedVault, tmp_path: Any) -> None:
    """Every way it can fail, met for real; syncing is not disturbed by any."""
    stage = portal.stage
    container = Container(portal, tmp_path / "container").enrol()
    check = container.synchroniser().self_check
    check.run()
    row = SelfCheckValue.objects.get()
    document = f"{stage.production.pk}/{row.data_key.document}"  # type: ignore[union-attr]

    def code() -> str:
        check.run()
        return SelfCheckResult.objects.get().code

    assert code() == ""
    genuine = bytes(row.sealed or b"")
    SelfCheckValue.objects.update(sealed=genuine[:-1] + bytes([genuine[-1] ^ 1]))
    assert code() == "selfcheck_broken"
    SelfCheckValue.objects.update(sealed=genuine)
    wrapped = hosted_vault.root.read_document("datakeys", document)[str(row.data_key_id)]
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, document, {str(row.data_key_id): "vault:v1:AAAA"})
    assert code() == "data_key_broken"
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, document, {str(row.data_key_id): None})
    assert code() == "data_key_missing"
    add_to_document(hosted_vault.root, OF_ENVIRONMENTS, document, {str(row.data_key_id): wrapped})
    assert code() == ""
    hosted_vault.root.call("DELETE", f"auth/environments/role/{stage.production.pk}")
    assert code() in ("login_refused", "vault_failing")
    assert container.sync().result in ("updated", "unchanged")


def test_a_portal_that_does_not_know_of_it_is_asked_again_in_an_hour(portal: LivePortal, tmp_path: Any) -> None:
    from kmsruntime.status import selfcheck as runtime_selfcheck

    container = Container(portal, tmp_path / "container").enrol()
    check = container.synchroniser().self_check
    post_ = check._portal.post
    check._portal.post = lambda path, *rest: post_(path.replace("selfcheck", "no/such/route"), *rest)  # type: ignore[method-assign]
    assert check.run() == runtime_selfcheck.NOT_HERE_SECONDS
    check._portal.post = post_  # type: ignore[method-assign]
    assert check.run() == runtime_selfcheck.EVERY_SECONDS


def test_the_tree_says_since_when_it_is_proved(stage: Stage) -> None:
    """To ten minutes, so that it is the same for a while."""
    at = datetime(2026, 11, 24, 4, 37, tzinfo=UTC)
    node = Node.objects.create(atom=stage.atom, state=Node.State.ENROLLED, host_name="orders-01")
    SelfCheckResult.objects.create(node=node, challenge=b"", asked_at=at, proved_at=at, environment=stage.production)
    tree = reverse("atoms:atom_tree", args=[stage.account.code])
    shown = stage.cast.client("alice").get(tree).content.decode()
    assert "proved after 24 November, 04:30 UTC" in shown
