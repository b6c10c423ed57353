"""What `enrol` is given, beside what it was given before in the same directory. Pure, but for the mark of a key file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from kmscore.byov.customer import EndpointRefused, endpoint_of
from kmsruntime.disk.home import Config
from kmsruntime.errors import EnrolmentRefused
from kmsruntime.keysource.allowlist import allow
from kmsruntime.store.keys import is_marked, marked


def united(before: Config | None, given: Config) -> Config:
    """What an enrolment goes on with: addresses and CA files as they are given now, all that was ever allowed, and the key
    file that was named last, with the mark that it has already.

    One that is not named again is kept: a key that was meant for a tmpfs must not come to lie on the disk.
    """
    before = before or Config("", "")
    key_file = before.key_file if _keeps_key_file(before, given) else marked(given.key_file)
    found = replace(given, key_file=key_file, allow_vaults=before.allow_vaults, allow_env=before.allow_env)
    return allow(found, given.allow_vaults, given.allow_env)


def refuse_others(directory: Path, before: Config, given: Config) -> None:
    """Of a directory that is enrolled already. Raises EnrolmentRefused where an option asks for something else than it has."""
    fixed, allowing = _fixed(before, given), _allowing(before, given)
    if not fixed and not allowing:
        return
    mends = []
    if fixed:
        mends.append(
            f"give {', '.join(fixed)} as at its enrolment (left out, if it was then), or empty the directory and enrol again "
            "with a new installer token"
        )
    if allowing:
        mends.append(f"kms-runtime allow-vault allows what {', '.join(allowing)} names")
    asked = ", ".join(fixed + allowing)
    raise EnrolmentRefused(
        "enrolled_otherwise",
        f"{directory} is enrolled already, and {asked} asked for something else than it has; nothing was changed: "
        f"{'; '.join(mends)}.",
    )


def _fixed(before: Config, given: Config) -> list[str]:
    """The options that only an enrolment sets, and that differ."""
    kept = {
        "--portal": _is_same_address(before.portal, given.portal),
        "--vault": _is_same_address(before.vault, given.vault),
        "--portal-ca": given.portal_ca in ("", before.portal_ca),
        "--vault-ca": given.vault_ca in ("", before.vault_ca),
        "--key-file": _keeps_key_file(before, given),
    }
    return [option for option, is_kept in kept.items() if not is_kept]


def _allowing(before: Config, given: Config) -> list[str]:
    """The options that would allow more than is allowed."""
    more = {
        "--allow-vault": set(given.allow_vaults) - set(before.allow_vaults),
        "--allow-env": set(given.allow_env) - set(before.allow_env),
    }
    return [option for option, names in more.items() if names]


def _keeps_key_file(before: Config, given: Config) -> bool:
    return not given.key_file or is_marked(before.key_file, given.key_file)


def _is_same_address(before: str, given: str) -> bool:
    """However it is written: in capitals, or with the port that everybody knows."""
    with suppress(EndpointRefused):
        return endpoint_of(before) == endpoint_of(given)
    return False
