"""How a process ends whose settings cannot be used: one line, and no traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.db.migrations.exceptions import InconsistentMigrationHistory

from accounts.keyring import KeyringBroken


@contextmanager
def one_line(status: int = 1) -> Iterator[None]:
    """End the process with this status when settings are missing, unreadable or refused."""
    try:
        yield
    except (ImproperlyConfigured, KeyringBroken) as error:
        said = str(error)
    except InconsistentMigrationHistory:
        said = "This database is of an earlier edition of the portal, which this one does not read: give it a new one."
    except OSError as error:  # a file named by …_FILE; its name is in the settings, its content is not shown
        said = f"{error.filename or 'A file'} cannot be read: {error.strerror}."
    else:
        return
    print(f"KMS Portal does not start. {said}", file=sys.stderr)
    sys.exit(status)
