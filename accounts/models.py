"""Who: users, accounts, roles, memberships, and the audit log."""

import hashlib
import hmac
import secrets
import string
from typing import Any, ClassVar

import orjson
from django.conf import settings
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify

from accounts.privileges import ADMINISTRATOR, Privilege
from accounts.rows import SignedModel, UuidModel


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser, UuidModel):
    """A person; the e-mail address is the name to sign in with."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    def __str__(self) -> str:
        return self.get_full_name() or self.email


class SupportStaff(SignedModel):
    """A person of the portal's support, who may look into every account (`/support/`). Signed, like every grant."""

    SIGNED = ("user_id",)

    user = models.OneToOneField(User, models.CASCADE, related_name="support_staff")
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.user} of the support staff"

    @staticmethod
    def includes(user: User) -> bool:
        """Whether an operator made this person one, and nobody wrote that past the application."""
        row = getattr(user, "support_staff", None)
        return user.is_active and user.is_staff and row is not None and row.has_valid_mac()


class AccountQuerySet(models.QuerySet["Account"]):
    def of_member(self, user: User) -> "AccountQuerySet":
        return self.filter(memberships__user=user).order_by("name")


class Account(UuidModel):
    """A customer. Its code, of the form `acme-X1Y2Z3`, is part of every address and of customers' key names."""

    code = models.CharField(
        max_length=64,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9_]+-[A-Z0-9]{6}$", "A code looks like acme-X1Y2Z3.")],
    )
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = AccountQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def new_code(name: str) -> str:
        """A code made from a name: `Acme Corp` gives `acmecorp-7GQ2KD`."""
        prefix = slugify(name).replace("-", "")[:24] or "account"
        return prefix + "-" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(6))


class Role(SignedModel):
    """A named set of privileges, built in (no account) or an account's own."""

    SIGNED = ("account_id", "name", "privileges")

    account = models.ForeignKey(Account, models.CASCADE, null=True, blank=True, related_name="roles")
    name = models.CharField(max_length=80)
    privileges = models.TextField(blank=True, help_text="Names of privileges, separated by spaces.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="role_name_once"),
            models.UniqueConstraint(fields=["name"], condition=Q(account=None), name="built_in_role_name_once"),
        ]

    def __str__(self) -> str:
        return self.name

    def privilege_set(self) -> frozenset[str]:
        return frozenset(self.privileges.split())


class Membership(UuidModel):
    """A user's place in an account; what it allows is the union of its roles."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="member_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}"


class MembershipRole(SignedModel):
    """A role given to a member. Signed: a row slipped into the table gives no privilege."""

    SIGNED = ("membership_id", "role_id", "account_id", "user_id")

    membership = models.ForeignKey(Membership, models.CASCADE, related_name="membership_roles")
    role = models.ForeignKey(Role, models.PROTECT, related_name="membership_roles")
    # Repeated from the membership so that the signature holds them: re-pointing a membership must not carry its roles.
    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["membership", "role"], name="member_role_once")]

    def __str__(self) -> str:
        return f"{self.role} of {self.membership}"

    def holds_for(self, membership: Membership) -> bool:
        """Whether this row, and its role, are genuine and about this very membership."""
        return (
            self.has_valid_mac()
            and self.role.has_valid_mac()
            and (self.membership_id, self.account_id, self.user_id)
            == (membership.pk, membership.account_id, membership.user_id)
            and self.role.account_id in (None, membership.account_id)
        )


class AuditEntry(UuidModel):
    """One act in an account. Entries form a chain: `mac` covers the entry and the `mac` before it (`accounts/audit.py`)."""

    KINDS: ClassVar[dict[str, str]] = {
        "as.extensions": "Environment extensions",
        "as.component": "Connection",
        "as.environment": "Environment",
        "as.atom": "Atom",
        "as.atom.properties": "Atom properties",
        "as.atom.kms": "Key Management Service",
        "as.installer": "Installer token",
        "operation": "Operation",
        "account": "Account",
        "user": "Member",
        "support": "Support staff",
    }

    account = models.ForeignKey(Account, models.PROTECT, related_name="audit_entries")
    seq = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    actor_name = models.CharField(max_length=254)
    type = models.CharField(max_length=64)
    action = models.CharField(max_length=32)
    modifier = models.CharField(max_length=32, default="NONE")
    subject_id = models.CharField(max_length=64, blank=True)
    message = models.CharField(max_length=500)
    # Free by nature: names and ids of what was touched, never a value (the platform API's AuditLogProperty list).
    properties = models.JSONField(default=dict)
    previous = models.BinaryField(max_length=32)
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "seq"], name="audit_seq_once")]
        ordering = ["-seq"]

    def __str__(self) -> str:
        return f"{self.seq} {self.message}"

    @property
    def kind(self) -> str:
        """The type in words."""
        return self.KINDS.get(self.type, self.type)

    def expected_mac(self) -> bytes:
        """HMAC-SHA-256 over the entry's canonical JSON and the previous mac, under the audit key."""
        content = [
            str(self.account_id), self.seq, self.at.isoformat(), self.actor_name, self.type, self.action, self.modifier,
            self.subject_id, self.message, self.properties, bytes(self.previous).hex(),
        ]  # fmt: skip
        return hmac.digest(settings.AUDIT_KEY, orjson.dumps(content, option=orjson.OPT_SORT_KEYS), hashlib.sha256)


class RateLimit(models.Model):
    """One limit of the sign-in, or one used code (accounts/rate_limits.py). key: SHA-256, in hex. held: JSON."""

    key = models.CharField(max_length=64, primary_key=True)
    held = models.TextField()
    ends_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"rate limit until {self.ends_at}"


class Session(AbstractBaseSession):
    """A session; its key is the SHA-256, in hex, of the one in the cookie (accounts/sessions.py)."""

    session_key = models.CharField(max_length=64, primary_key=True)

    def __str__(self) -> str:
        return f"session until {self.expire_date}"


__all__ = [
    "ADMINISTRATOR",
    "Account",
    "AuditEntry",
    "Membership",
    "MembershipRole",
    "Privilege",
    "RateLimit",
    "Role",
    "Session",
    "SupportStaff",
    "User",
]
