"""Who: users, accounts, roles, memberships, and the audit log."""

import hashlib
import secrets
import string
import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.text import slugify

from accounts import signing
from accounts.keyring import SIGNATURE_BYTES
from accounts.privileges import ADMINISTRATOR, BUILT_IN_ROLES, Privilege
from accounts.rows import WEB, SignedModel, UuidModel, canonical_json
from kmscore.byov.customer import ACCOUNT_CODE
from kmscore.sealed.sequence import sequence


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser, SignedModel):
    """A person; the e-mail address is the name to sign in with.

    Signed is all that signing in goes by, second factors and the addresses of reset links included (accounts/credentials.py).
    """

    SIGNED = ("email", "password", "is_active", "is_staff", "is_superuser", "factors")
    SIGNERS = WEB

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    factors = models.JSONField(default=dict, editable=False)  # {kind of second factor: SHA-256 of what is stored of it}

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    def __str__(self) -> str:
        return self.get_full_name() or self.email


class SupportStaff(SignedModel):
    """A person of the portal's support, who may look into every account (`/support/`). Signed, like every grant."""

    SIGNED = ("user_id",)
    SIGNERS = WEB
    COMES_BACK = True

    user = models.OneToOneField(User, models.CASCADE, related_name="support_staff")
    since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.user} of the support staff"

    @staticmethod
    def id_of(user: User) -> uuid.UUID:
        return uuid.uuid5(user.pk, "support staff")

    @staticmethod
    def includes(user: User) -> bool:
        """Whether an operator made this person one, and nobody wrote that past the application."""
        row = getattr(user, "support_staff", None)
        genuine = row is not None and row.user_id == user.pk and row.has_valid_signature()
        return user.is_active and user.is_staff and genuine


class Account(SignedModel):
    """A customer. Its code, of the form `acme-X1Y2Z3`, is part of every address and of customers' key names.

    Signed: by its name and address people know where they type.
    """

    SIGNED = ("code", "name")
    SIGNERS = WEB

    code = models.CharField(
        max_length=64,
        unique=True,
        validators=[RegexValidator(rf"\A{ACCOUNT_CODE}\Z", "A code looks like acme-X1Y2Z3.")],
    )
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def of_member(user: User) -> "list[Account]":
        """Those that the person is a member of by genuine rows, by name."""
        memberships = user.memberships.select_related("account").order_by("account__name", "account")
        return [row.account for row in memberships if row.has_valid_signature()]

    @staticmethod
    def new_code(name: str) -> str:
        """A code made from a name: `Acme Corp` gives `acmecorp-7GQ2KD`."""
        prefix = slugify(name).replace("-", "")[:24] or "account"
        return prefix + "-" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(6))


class Role(SignedModel):
    """A named set of privileges, an account's own or built in (no account).

    Built-in ones are code (accounts/privileges.py): of their rows the id alone counts, for others to point at.
    """

    SIGNED = ("account_id", "name", "privileges")
    SIGNERS = WEB

    account = models.ForeignKey(Account, models.CASCADE, null=True, blank=True, related_name="roles")
    name = models.CharField(max_length=80)
    privileges = models.TextField(blank=True, help_text="Names of privileges, separated by spaces.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="role_name_once"),
            models.UniqueConstraint(fields=["name"], condition=Q(account=None), name="built_in_role_name_once"),
        ]

    def __str__(self) -> str:
        return self._built_in[0] if self._built_in else self.name

    @property
    def _built_in(self) -> tuple[str, tuple[Privilege, ...]] | None:
        return BUILT_IN_ROLES.get(self.pk) if self.account_id is None else None

    def privilege_set(self) -> frozenset[str]:
        return frozenset(self._built_in[1] if self._built_in else self.privileges.split())

    def may_be_given_in(self, account_id: uuid.UUID) -> bool:
        """Whether it is built in or the account's own, by a genuine row."""
        return self.account_id in (None, account_id) and self.has_valid_signature()

    def signed_by(self) -> str | None:
        if self.account_id is None:
            return "" if self._built_in else None
        return super().signed_by()


class Membership(SignedModel):
    """A user's place in an account; what it allows is the union of its roles.

    It names its roles itself, and has one id for good: a row that is hidden while a role is taken away brings nothing back.
    """

    SIGNED = ("account_id", "user_id", "roles")
    SIGNERS = WEB
    COMES_BACK = True

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    roles = models.JSONField(default=list)  # their ids
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "user"], name="member_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.account}"

    @staticmethod
    def id_of(account: Account, user: User) -> uuid.UUID:
        return uuid.uuid5(account.pk, str(user.pk))


class AuditEntry(UuidModel):
    """One act in an account, signed by the process that wrote it. Entries form a chain (`accounts/audit.py`).

    Signed is `signed_bytes()`: one form for every entry, which whoever has the key list verifies.
    """

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
    actor_id = models.UUIDField(
        null=True
    )  # of the person, who may be gone; None for a part of the portal or a container
    actor_name = models.CharField(max_length=254)
    type = models.CharField(max_length=64)
    action = models.CharField(max_length=32)
    modifier = models.CharField(max_length=32, default="NONE")
    subject_id = models.CharField(max_length=64, blank=True)
    message = models.CharField(max_length=500)
    # Free by nature: names and ids of what was touched, never a value (the platform API's AuditLogProperty list).
    properties = models.JSONField(default=dict)
    previous = models.BinaryField(max_length=32)  # the link of the entry before
    signature = models.BinaryField(max_length=SIGNATURE_BYTES)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "seq"], name="audit_seq_once")]
        ordering = ["-seq"]

    def __str__(self) -> str:
        return f"{self.seq} {self.message}"

    @property
    def kind(self) -> str:
        """The type in words."""
        return self.KINDS.get(self.type, self.type)

    def signed_bytes(self) -> bytes:
        """The sequence of the entry's parts, texts in UTF-8: what is signed."""
        properties = canonical_json(self.properties).decode()
        texts = [
            "kms-audit/1", str(self.pk), str(self.account_id), str(self.seq), self.at.isoformat(), str(self.actor_id or ""),
            self.actor_name, self.type, self.action, self.modifier, self.subject_id, self.message, properties,
        ]  # fmt: skip
        return sequence([*(text.encode() for text in texts), bytes(self.previous)])

    @property
    def is_genuine(self) -> bool:
        return self.signed_by() is not None

    def link(self) -> bytes:
        """What the next entry points back to: SHA-256 of this one's bytes and signature."""
        return hashlib.sha256(sequence([self.signed_bytes(), bytes(self.signature)])).digest()

    def signed_by(self, *, for_good: bool = True) -> str | None:
        """The process that wrote this entry as it is; None: it was changed, or is nobody's. for_good: with an ended key, too."""
        return signing.signer_of(self.signed_bytes(), self.signature, for_good=for_good)


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
    "Privilege",
    "RateLimit",
    "Role",
    "Session",
    "SupportStaff",
    "User",
]
