"""The portal's settings for the test run: a database file of its own, quick password hashes, no second factor."""

import os
import tempfile

os.environ.setdefault("KMS_MODE", "development")
os.environ.setdefault("KMS_VAR", tempfile.mkdtemp(prefix="test-var-"))
os.environ.setdefault("KMS_MFA_REQUIRED", "0")
os.environ.setdefault(
    "KMS_REDIS_URL", "redis://127.0.0.1:1/0"
)  # nobody listens there: a dead queue is an everyday case
os.environ.setdefault("KMS_LOG_LEVEL", "WARNING")

from kmsportal.settings import *  # noqa: E402, F403
from kmsportal.settings import DATABASES, MIDDLEWARE, VAR  # noqa: E402
from tests import guard  # noqa: E402

guard.install()
MIDDLEWARE = ["tests.guard.guard_requests", *MIDDLEWARE]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["TEST"] = {"NAME": str(VAR / "test.sqlite3")}  # a file: other processes use it too
(VAR / "static").mkdir(exist_ok=True)
CACHES = {"default": {"BACKEND": "tests.limits.SharedLimits"}}
