"""What a container takes for the settings of a customer's vault; whoever seals them may be anybody who took the portal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kmscore.byov.customer import MOST_SECONDS, CustomerVault, CustomerVaultBroken, Lifecycle, decode_customer_vault

VAULT = CustomerVault("https://vault.example.com", "${AUTH_TOKEN}")
TIMES = ("connection_timeout", "read_timeout", "refresh_before_expiry", "expiry_threshold")


def with_time(name: str, seconds: float) -> CustomerVault:
    if name in ("connection_timeout", "read_timeout"):
        return replace(VAULT, **{name: seconds})  # type: ignore[arg-type]
    return replace(VAULT, lifecycle=replace(Lifecycle(), **{name: seconds}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("seconds", [0.0, 0.001, MOST_SECONDS])
def test_a_time_that_a_file_may_name_is_taken(name: str, seconds: float) -> None:
    vault = with_time(name, seconds)
    assert decode_customer_vault(vault.encode()) == vault


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("seconds", [-0.001, -1e13, MOST_SECONDS + 1, 1e300])
def test_a_time_that_no_file_can_name_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(CustomerVaultBroken):
        decode_customer_vault(with_time(name, seconds).encode())


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "null", "1", "true"])
def test_what_is_no_time_is_refused(text: str) -> None:
    sealed = with_time("read_timeout", 15.25).encode().replace(b"15.25", text.encode())
    with pytest.raises(CustomerVaultBroken):
        decode_customer_vault(sealed)
