"""The Key Management Service panel against a minimal view of the same session and queries (goals: shown ≤ 1.5, saved ≤ 1.3
with the bare vault calls added).

The minimal view has the same middleware, session, access check and frame, makes the same queries and prints how many rows
came; its save reads the same upload and locks, reads and writes the same rows, with nothing in them. What is compared is
what we add: the panel's logic and templates, linter, form, sealing.
"""

import itertools
import sys
from collections.abc import Callable
from typing import Any

import scene

PROPERTIES = """spring:
  cloud:
    vault:
      uri: https://vault.example.com:8200
      namespace: admin
      authentication: token
      token: hvs.CAESI{number:060d}
      session:
        lifecycle:
          enabled: true
          expiry-threshold: 20s
          refresh-before-expiry: 10s
"""


def write(atom: Any, user: Any) -> None:
    """The rows a save writes, by the plainest means: lock, read, write, with content of the same size and no meaning."""
    from django.db import transaction
    from django.db.models import F

    from accounts.models import Account, AuditEntry
    from atoms.models import Atom
    from vaults.models import ContainerReport, DataKey, KmsSettings, Recipient
    from vaults.panel.settings import SETTINGS

    list(ContainerReport.objects.filter(node__atom=atom).exclude(node__state="revoked"))
    atom = Atom.objects.select_related("account__kms", *SETTINGS).get(pk=atom.pk)
    recipient = Recipient.objects.get(pk=atom.pk)
    with transaction.atomic():
        settings = KmsSettings.objects.select_for_update(no_key=True).get(atom=atom)
        Recipient.objects.filter(pk=atom.pk).update(data_keys_made=F("data_keys_made"))
        key = DataKey.objects.create(recipient=recipient, document=0, key_version=1)
        file = atom.properties_file
        file.data_key, file.uploaded_by = key, user
        file.save()
        settings.data_key, settings.changed_by = key, user
        settings.save()
        Account.objects.select_for_update(no_key=True).only("pk").get(pk=atom.account_id)
        last = AuditEntry.objects.filter(account=atom.account_id).order_by("-seq")[0]
        AuditEntry(
            account_id=atom.account_id,
            seq=last.seq + 1,
            at=settings.changed_at,
            actor_id=user.pk,
            actor_name=user.email,
            type="bench",
            action="EDIT",
            message="m" * 90,
            properties={"revision": 1},
            previous=last.previous,
            signature=last.signature,
        ).save(force_insert=True)


def queries_of(request: Any, atom_id: Any) -> list[Any]:
    """The panel's queries, written down plainly: what is asked, and nothing made of it."""
    from django.db.models import Prefetch

    from atoms.models import Atom, Environment, Node
    from operations.models import Operation
    from vaults.models import Enrolment, LoginAlarm, Recipient
    from vaults.panel.settings import SETTINGS

    member = request.membership
    related = ("attached_to", "account__kms", *SETTINGS)
    atom = Atom.objects.visible_to(member).select_related(*related).get(pk=atom_id)
    assert atom.attached_to_id is not None
    rows: list[Any] = [
        list(LoginAlarm.objects.filter(account=atom.account_id, role=str(atom.pk), closed_at=None)),
        list(atom.nodes.exclude(state="revoked").select_related("report__environment")),
        list(Recipient.objects.filter(pk=atom.attached_to_id)[:1]),
        list(Operation.objects.filter(account=atom.account_id).unfinished().filter(subject_id__in=[atom.pk])),
        list(Enrolment.objects.filter(node__atom=atom, state="intruded").values_list("requested_at", flat=True)[:1]),
    ]
    enrolled = Node.objects.filter(state="enrolled").select_related("report")
    atoms = Atom.objects.visible_to(member).select_related("attached_to", "kms_settings")
    rows += [list(Environment.objects.visible_to(member)), list(atoms.prefetch_related(Prefetch("nodes", enrolled)))]
    return [len(row) for row in rows]


def statements(act: Callable[[], Any]) -> int:
    """How many statements an act sends."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)


def prepared(atom: Any, count: int) -> Any:
    """Files to upload, each with what confirms it, made before anything is measured."""
    from kmscore.byov.properties import read_properties
    from vaults.panel.settings import PropertiesUpload, content_mac

    made = []
    for number in range(1000, 1000 + count):
        text = PROPERTIES.format(number=number).encode()
        vault = read_properties("application.yaml", text).vault
        assert vault is not None
        made.append((text, content_mac(atom, PropertiesUpload("application.yaml", vault, {})).hex()[:16]))
    return iter(made)


def minimal_view() -> Callable[..., Any]:
    """The smallest view that asks the same: sign-in, membership, queries, and for a page the frame around them."""
    from django.http import HttpResponse
    from django.template import engines

    from accounts.access import account_member
    from atoms.pages import find_atom
    from vaults.panel.settings import SETTINGS

    page = engines["django"].from_string(
        '{% extends "frame.html" %}{% block content %}{% for row in rows %}<p>{{ row }}</p>{% endfor %}'
        '<form method="post">{% csrf_token %}<input type="file" name="file"><button>Save</button></form>{% endblock %}'
    )
    part = engines["django"].from_string("{% for row in rows %}<p>{{ row }}</p>{% endfor %}")

    @account_member()
    def minimal(request: Any, atom_id: Any) -> HttpResponse:
        if request.method == "GET":
            return HttpResponse(page.render({"rows": queries_of(request, atom_id)}, request))
        request.FILES["file"].read()
        write(find_atom(request, atom_id, *SETTINGS), request.user)
        atom = find_atom(request, atom_id, *SETTINGS)
        return HttpResponse(part.render({"rows": [atom.kms_settings.revision]}, request))

    return minimal


def main() -> None:
    with scene.portal():
        from django.core.files.uploadedfile import SimpleUploadedFile
        from django.test import Client
        from django.urls import path, reverse

        from atoms import actions as atoms
        from kmsportal import urls
        from operations.work import sweep
        from vaults.hosted import calls

        account, environment, user = scene.account("Panel", kms=True)
        atom = atoms.create_atom(account, name="Bench Atom", type="ATOM", environment=environment, actor=user)
        sweep()
        scene.reported(atom)
        urls.urlpatterns.append(path("minimal/<str:code>/<uuid:atom_id>/", minimal_view(), name="minimal"))
        minimal = reverse("minimal", args=[account.code, atom.pk])
        client = Client()
        client.force_login(user, "accounts.signin.SignedCredentials")
        panel = reverse("vaults:kms_panel", args=[account.code, atom.pk])
        save_url = reverse("vaults:kms_settings", args=[account.code, atom.pk])
        number = itertools.count()

        def file() -> SimpleUploadedFile:
            return SimpleUploadedFile("application.yaml", PROPERTIES.format(number=next(number)).encode())

        revision = itertools.count(1)
        uploads = prepared(atom, 80)

        def save() -> None:
            now, (text, mac) = next(revision), next(uploads)
            data = {"byov": "on", "expected_revision": now, "file": SimpleUploadedFile("application.yaml", text)}
            if now > 1:  # what the page asked, and somebody pressed
                data["confirmed"] = f"replace-{now}-{mac}"
            answer = client.post(save_url, data, headers={"hx-request": "true"})
            assert b"Saved." in answer.content, answer.content[-2000:]

        def minimal_save() -> None:
            answer = client.post(minimal, {"file": file()}, headers={"hx-request": "true"})
            assert answer.status_code == 200, answer.status_code

        save()
        counts = [statements(lambda: client.get(panel)), statements(lambda: client.get(minimal))]
        print(f"statements shown: panel {counts[0]}, minimal view {counts[1]}")
        assert counts[0] == counts[1], "the minimal view no longer asks the same"
        counts = [statements(save), statements(minimal_save)]
        print(f"statements saved: panel {counts[0]}, minimal view {counts[1]}")
        assert abs(counts[0] - counts[1]) <= 1, "the minimal view no longer writes the same"
        shown, least = scene.interleaved(40, lambda: client.get(panel), lambda: client.get(minimal))
        scene.line("panel shown, to a minimal view of the same queries", shown / least, "<= 1.5", shown / least <= 1.5)

        recipient = atom.account.recipients.get(pk=atom.pk)

        def bare_calls() -> None:
            key = calls.new_data_key(recipient)
            calls.store_wrapped_keys(recipient, 0, {f"bench-{next(number) % 100}": key.wrapped})

        saved, least, bare = scene.interleaved(25, save, minimal_save, bare_calls)
        ratio = saved / (least + bare)
        scene.line("panel saved with a file, to it plus the bare vault calls", ratio, "<= 1.3", ratio <= 1.3)
        if shown > 0.1:
            sys.exit("the panel takes more than 100 ms")


if __name__ == "__main__":
    main()
