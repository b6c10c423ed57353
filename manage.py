#!/usr/bin/env python
"""Runs the portal's management commands."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsportal.settings")
    try:
        from django.conf import settings
        from django.core.management import execute_from_command_line

        from kmsportal.refusal import one_line

        with one_line():
            settings.INSTALLED_APPS  # noqa: B018 (reads them all)
        execute_from_command_line(sys.argv)
    except ModuleNotFoundError as error:
        # Without its packages nothing here can explain itself; with --traceback the import that failed is shown.
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"{error}: use .venv/bin/python; if that is what ran, delete .venv and run `make venv`.")
