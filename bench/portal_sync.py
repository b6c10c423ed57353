"""The runtime's door: `sync` of 1,000 values against an orjson view of the same rows (goal ≥ 0.6 of its speed), and a 304
against a minimal session-less view (goal ≥ 0.5). One request at a time through the whole middleware stack.
"""

import base64
import hashlib
import secrets
from typing import Any

import scene

N = 1_000


def bare_views() -> Any:
    """A URL configuration with the two views to compare with, beside the portal's own."""
    import types

    import orjson
    from django.contrib.auth.decorators import login_not_required
    from django.http import HttpResponse
    from django.urls import include, path

    from extensions.models import ExtensionValue

    @login_not_required
    def rows(request: Any, environment: Any) -> HttpResponse:
        found = ExtensionValue.objects.filter(environment=environment).values_list(
            "field__connection_id", "field__key", "revision", "data_key_id", "data_key__document", "sealed"
        )
        body = [(*row[:5], base64.b64encode(row[5] or b"").decode()) for row in found]
        return HttpResponse(orjson.dumps(body), content_type="application/json")

    @login_not_required
    def minimal(request: Any) -> HttpResponse:
        return HttpResponse(b"ok")

    module = types.ModuleType("bench_urls")
    module.urlpatterns = [  # type: ignore[attr-defined]
        path("bench/rows/<uuid:environment>", rows),
        path("bench/minimal", minimal),
        path("", include("kmsportal.urls")),
    ]
    return module


def main() -> None:
    with scene.portal():
        from django.test import Client, override_settings

        from atoms import actions as atoms
        from atoms.models import Node, NodeCredential, token_hash
        from extensions.actions import save_extensions
        from extensions.plan import FieldChange
        from extensions.secret import Secret

        made, environment, user = scene.account("Sync", kms=True)
        fields = scene.connection(made, N, encrypted=True)
        changes = [FieldChange(field, "secret", Secret(f"value {field.key}")) for field in fields]
        save_extensions(environment, changes, expected_revision=0, actor=user)
        atom = atoms.create_atom(made, name="Bench", type="ATOM", environment=environment, actor=user)
        node = Node.objects.create(atom=atom, state=Node.State.ENROLLED)
        token = secrets.token_urlsafe(32)
        NodeCredential(
            node=node, atom=atom, account_id=atom.account_id, kind="sync", token_hash=token_hash(token)
        ).save()
        assert hashlib.sha256(token.encode()).digest() == token_hash(token)
        headers = {"authorization": f"Bearer {token}"}
        with override_settings(ROOT_URLCONF=bare_views()):
            client = Client()
            tag = client.get("/api/atom/v1/sync", headers=headers).headers["ETag"]

            def ours() -> None:
                assert client.get("/api/atom/v1/sync", headers=headers).status_code == 200

            def theirs() -> None:
                assert client.get(f"/bench/rows/{environment.pk}").status_code == 200

            def unchanged() -> None:
                found = client.get("/api/atom/v1/sync", headers={**headers, "if-none-match": tag})
                assert found.status_code == 304

            def minimal() -> None:
                assert client.get("/bench/minimal").status_code == 200

            first, second = scene.interleaved(60, ours, theirs)
            scene.line(
                f"sync of {N:,} values: speed of an orjson view", second / first, ">= 0.6", second / first >= 0.6
            )
            first, second = scene.interleaved(400, unchanged, minimal)
            scene.line("304: speed of a minimal session-less view", second / first, ">= 0.5", second / first >= 0.5)


if __name__ == "__main__":
    main()
