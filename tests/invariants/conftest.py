"""The invariants are tried with the same containers as the runtime's own tests."""

from tests.kmsruntime.conftest import another, container, enrolled

__all__ = ["another", "container", "enrolled"]
