"""Saving the dialog with secrets, against the same form without encryption plus two bare vault calls (goal ≤ 1.3).

Both sides post the whole dialog over Django's test client: middleware, session, form, one transaction, audit entry. The plain
side belongs to an account without KMS, so it makes no vault call of its own; the two bare calls are a data key and a patch.
"""

import itertools
from collections.abc import Callable
from typing import Any

import scene


def saver(client: Any, made: Any, environment: Any, fields: list[Any], count: int, prefix: str) -> Callable[[], None]:
    """Post the dialog with `count` new values."""
    from django.urls import reverse

    from atoms.models import Environment

    url = reverse("extensions:environment_extensions", args=[made.code, environment.pk])
    number = itertools.count()

    def save() -> None:
        revision = Environment.objects.values_list("extensions_revision", flat=True).get(pk=environment.pk)
        value = f"value {next(number)} " + "x" * 20
        data = {f"{prefix}.{field.pk}": value for field in fields[:count]}
        if prefix == "value":
            data |= {f"component.{field.pk}": "on" for field in fields[count:]}
        answer = client.post(url, {"expected_revision": revision, **data})
        assert answer.status_code == 302, answer.status_code

    return save


def bare_calls(recipient: Any) -> Callable[[], None]:
    from vaults.hosted import calls

    number = itertools.count()

    def call() -> None:
        key = calls.new_data_key(recipient)
        calls.store_wrapped_keys(recipient, 999, {f"bench-{next(number) % 400}": key.wrapped})

    return call


def main() -> None:
    with scene.portal():
        from django.test import Client

        sealed, sealed_env, user = scene.account("Sealed", kms=True)
        plain, plain_env, _ = scene.account("Plain", kms=False)
        secret_fields = scene.connection(sealed, 200, encrypted=True)
        plain_fields = scene.connection(plain, 200, encrypted=False)
        client = Client()
        client.force_login(user, "accounts.signin.SignedCredentials")
        bare = bare_calls(sealed_env.account.recipients.get(pk=sealed_env.pk))
        print("save of a dialog of 200 fields; ratio to the same form without encryption + two bare vault calls")
        for count in (1, 20, 200):
            ours = saver(client, sealed, sealed_env, secret_fields, count, "secret")
            theirs = saver(client, plain, plain_env, plain_fields, count, "value")
            mine, other, least = scene.interleaved(15, ours, theirs, bare)
            scene.line(f"{count} secrets", mine / (other + least), "<= 1.3", mine / (other + least) <= 1.3)
        nothing = saver(client, sealed, sealed_env, secret_fields, 0, "secret")
        unchanged = saver(client, plain, plain_env, plain_fields, 0, "value")
        unchanged()
        mine, other = scene.interleaved(15, nothing, unchanged)
        scene.line("0 secrets, nothing changed: no call, no write", mine / other, "<= 1.3", mine / other <= 1.3)


if __name__ == "__main__":
    main()
