"""Runs tests on a real PostgreSQL instead of SQLite: `python -m tests.on_postgres -m postgres`."""

import os
import sys

import pytest

from tests.servers import start_postgres


def main() -> int:
    server = start_postgres()
    os.environ["KMS_DATABASE_URL"] = f"postgres://{server.user}:{server.password}@127.0.0.1:{server.port}/postgres"
    try:
        return int(pytest.main(sys.argv[1:]))
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
