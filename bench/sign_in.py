"""Signing in, against the same password hash alone (Argon2id as in production): what everything around it costs.

One sign-in at a time over Django's test client: middleware, form, rate limits, credentials, session.
"""

from typing import Any

import scene


def main() -> None:
    with scene.portal():
        from django.contrib.auth.hashers import Argon2PasswordHasher
        from django.core.cache import cache
        from django.test import Client, override_settings

        hashers = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
        with override_settings(PASSWORD_HASHERS=hashers):
            _, _, user = scene.account("Sign-in", kms=False)
            user.set_password(scene.PASSWORD)
            user.save()
            hasher, stored = Argon2PasswordHasher(), user.password

            def ours() -> None:
                cache.clear()  # the limits of sign-in count these too
                form = {"login": user.email, "password": scene.PASSWORD}
                answer: Any = Client().post("/auth/login/", form)
                assert answer.status_code == 302, answer.status_code

            def bare() -> None:
                assert hasher.verify(scene.PASSWORD, stored)

            first, second = scene.interleaved(60, ours, bare)
            print(f"a sign-in: {first * 1000:.1f} ms, its hash alone {second * 1000:.1f} ms")
            scene.line("a sign-in, of its hash alone", first / second, "<= 2", first / second <= 2)


if __name__ == "__main__":
    main()
