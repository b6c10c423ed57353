"""Where: environments, the Atoms attached to them, the nodes (enrolled machines) of an Atom, installer tokens."""

import hashlib
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.functional import cached_property

from accounts.access import genuine_roles, is_administrator
from accounts.models import Account, Membership, User
from accounts.rows import WEB, SignedModel, UuidModel


def token_hash(token: str) -> bytes:
    """SHA-256 of a token. Tokens here have at least 122 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()


class EnvironmentQuerySet(models.QuerySet["Environment"]):
    def visible_to(self, membership: Membership) -> "EnvironmentQuerySet":
        """Those without roles of their own, those of the member's roles, and for an Administrator all."""
        environments = self.filter(account=membership.account_id)
        if is_administrator(membership):
            return environments
        shown = [row.pk for row in environments.exclude(roles=[]) if row.is_seen_by(membership)]
        return environments.filter(Q(roles=[]) | Q(pk__in=shown))


class Environment(SignedModel):
    """Where Atoms are attached and values are held. Signed: it cannot be pushed into another account, nor pass for another one,
    in which somebody would type what is meant for that.

    It names the roles itself whose members see it: no row that was hidden meanwhile brings back what was taken away.
    """

    SIGNED = ("account_id", "name", "classification", "roles", "has_list")
    SIGNERS = WEB

    class Classification(models.TextChoices):
        PROD = "PROD", "Production"
        TEST = "TEST", "Test"

    account = models.ForeignKey(Account, models.CASCADE, related_name="environments")
    name = models.CharField(max_length=80)
    classification = models.CharField(max_length=4, choices=Classification.choices, default=Classification.PROD)
    roles = models.JSONField(default=list)  # ids: seen by members with one of these; none: by every member
    created_at = models.DateTimeField(auto_now_add=True)
    # Written by extensions: since its first save there is a signed list of what it holds; and its number, which only grows.
    has_list = models.BooleanField(default=False)
    extensions_revision = models.PositiveBigIntegerField(default=0)
    extensions_changed_at = models.DateTimeField(null=True)
    # Written by vaults: set once the hosted vault has this environment's key and role.
    provisioned_at = models.DateTimeField(null=True)

    objects = EnvironmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "account", Lower("name"), name="environment_name_once", violation_error_message="This name is taken."
            )
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def seen_by(self) -> str:
        """Its roles as one text, never empty: what a page shows and sends back, so that no newer choice is overwritten."""
        return " ".join(self.roles) or "everybody"

    def is_seen_by(self, membership: Membership) -> bool:
        """By what is signed, whatever the database was asked."""
        if not self.has_valid_signature() or self.account_id != membership.account_id:
            return False
        held = {str(role.pk) for role in genuine_roles(membership)}
        return not self.roles or not held.isdisjoint(self.roles) or is_administrator(membership)


def _revocations(atom_id: Any) -> "models.QuerySet[RevokedCredential, datetime]":
    """When machines of an Atom that had enrolled were cut off, newest first."""
    enrolled = RevokedCredential.objects.filter(node__atom=atom_id).exclude(node__enrolled_at=None)
    return enrolled.order_by("-revoked_at").values_list("revoked_at", flat=True)


class AtomQuerySet(models.QuerySet["Atom"]):
    def visible_to(self, membership: Membership) -> "AtomQuerySet":
        """Unattached Atoms, and those of environments the member sees."""
        environments = Environment.objects.visible_to(membership)
        atoms = self.filter(account=membership.account_id)
        return atoms.filter(Q(attached_to=None) | Q(attached_to__in=environments))

    def with_last_revoked(self) -> "AtomQuerySet":
        """So that a list asks no query more for each Atom's status."""
        return self.annotate(last_revoked_at=Subquery(_revocations(OuterRef("pk"))[:1]))


class Atom(SignedModel):
    """A runtime: an Atom on one machine, a Molecule on several nodes, or a Cloud. Signed like an environment.

    Where it is attached is a grant to read that environment's secrets. It names its one installer token itself: an earlier
    one that was hidden while it was withdrawn is none.
    """

    SIGNED = ("account_id", "name", "type", "attached_to_id", "installer_token", "revoked_at")
    SIGNERS = WEB

    class Type(models.TextChoices):
        ATOM = "ATOM", "Atom"
        MOLECULE = "MOLECULE", "Molecule"
        CLOUD = "CLOUD", "Cloud"

    class Status(models.TextChoices):
        UNKNOWN = "UNKNOWN", "Never seen"
        ONLINE = "ONLINE", "Online"
        WARNING = "WARNING", "Cluster issues"
        OFFLINE = "OFFLINE", "Offline"
        REVOKED = "REVOKED", "Revoked"

    account = models.ForeignKey(Account, models.CASCADE, related_name="atoms")
    name = models.CharField(max_length=80)
    type = models.CharField(max_length=8, choices=Type.choices, default=Type.ATOM)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    # Written by vaults.
    provisioned_at = models.DateTimeField(null=True)
    attached_to = models.ForeignKey(Environment, models.PROTECT, null=True, related_name="atoms")
    attached_at = models.DateTimeField(null=True)
    attached_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    installer_token = models.UUIDField(null=True)  # the id of the newest, unless it was withdrawn
    revoked_at = models.DateTimeField(null=True)  # all of its nodes: what one of them showed until then is nothing
    # Grows with every attach and detach, so that containers notice and fetch other credentials.
    attachment_revision = models.PositiveIntegerField(default=0)
    # Written by vaults: grows when somebody asks its containers for a new at-rest data key.
    rekey_revision = models.PositiveIntegerField(default=0)

    objects = AtomQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "account", Lower("name"), name="atom_name_once", violation_error_message="This name is taken."
            )
        ]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def environment(self) -> Environment | None:
        """Where it is attached. Raises RowTampered unless Atom and environment are genuine and of one account."""
        place = self.verified().attached_to
        return place.verified(pk=self.attached_to_id, account_id=self.account_id) if place else None

    @cached_property
    def last_revoked_at(self) -> datetime | None:
        """When a machine that had enrolled was last cut off."""
        return _revocations(self.pk).first()

    def status(self) -> "Atom.Status":
        """From the nodes' last contact (prefetched as `nodes` where lists are shown); without any, whether it ever had one."""
        nodes = [node for node in self.nodes.all() if node.state == Node.State.ENROLLED]
        online = [node for node in nodes if node.is_online]
        if not nodes:
            return self.Status.REVOKED if self.last_revoked_at else self.Status.UNKNOWN
        if not online:
            return self.Status.OFFLINE
        return self.Status.ONLINE if len(online) == len(nodes) else self.Status.WARNING


class Node(UuidModel):
    """One enrolled machine of an Atom. A Molecule has several, an Atom or a Cloud one."""

    class State(models.TextChoices):
        ENROLLING = "enrolling", "Enrolling"
        ENROLLED = "enrolled", "Enrolled"
        REVOKED = "revoked", "Revoked"

    ONLINE_WITHIN = timedelta(seconds=6 * settings.ATOM_POLL_SECONDS)

    atom = models.ForeignKey(Atom, models.CASCADE, related_name="nodes")
    host_name = models.CharField(max_length=253, blank=True)
    version = models.CharField(max_length=32, blank=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.ENROLLING)
    created_at = models.DateTimeField(auto_now_add=True)
    enrolled_at = models.DateTimeField(null=True)
    last_seen_at = models.DateTimeField(null=True)
    # Written by atomapi: the newest content that was handed to it, so that each delivery is one audit entry.
    delivered_revision = models.PositiveBigIntegerField(default=0)
    delivered_environment = models.ForeignKey(Environment, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.host_name or str(self.pk)

    @property
    def is_online(self) -> bool:
        return bool(self.last_seen_at and timezone.now() - self.last_seen_at < self.ONLINE_WITHIN)


class NodeCredential(SignedModel):
    """What a node shows to the portal; only its hash is here.

    A `sync` credential fetches what the environment holds, a `settings` credential only the Atom's own KMS settings:
    with a wrapped encryption key the first lies inside the store, the second beside it.
    """

    SIGNED = ("node_id", "atom_id", "account_id", "kind", "token_hash", "created_at")

    class Kind(models.TextChoices):
        SYNC = "sync", "Sync"
        SETTINGS = "settings", "Settings"

    node = models.ForeignKey(Node, models.CASCADE, related_name="credentials")
    # Repeated so that the signature holds them: a node that was pushed to another Atom, or an Atom to another account,
    # carries no credential with it.
    atom = models.ForeignKey(Atom, models.CASCADE, related_name="+")
    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    token_hash = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    replaced = models.BooleanField(default=False)  # by the node itself, when it began to keep no plaintext key

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "kind"], name="node_credential_once")]

    def __str__(self) -> str:
        return f"{self.kind} credential of {self.node_id}"

    @staticmethod
    def id_of(node_id: uuid.UUID, kind: str) -> uuid.UUID:
        return uuid.uuid5(node_id, kind)

    def is_valid(self) -> bool:
        """Whether this row is genuine, still about the Atom and account it was made for, and of no node that was revoked with
        all others, which may have been hidden then."""
        atom = self.node.atom
        return (
            self.has_valid_signature()
            and atom.has_valid_signature()
            and (self.atom_id, self.account_id) == (self.node.atom_id, atom.account_id)
            and self.atom_id == atom.pk
            and (atom.revoked_at is None or atom.revoked_at < self.created_at)
        )


class RevokedCredential(UuidModel):
    """What a revoked node showed to the portal, as a hash: it opens nothing, and tells whether somebody still tries it."""

    node = models.ForeignKey(Node, models.CASCADE, related_name="revoked_credentials")
    token_hash = models.BinaryField(max_length=32, db_index=True)
    revoked_at = models.DateTimeField(default=timezone.now)
    refused_at = models.DateTimeField(null=True)  # the first time
    last_refused_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"revoked credential of {self.node_id}"


class InstallerTokenQuerySet(models.QuerySet["InstallerToken"]):
    def open(self) -> "InstallerTokenQuerySet":
        return self.filter(spent_at=None, withdrawn_at=None, expires_at__gt=timezone.now())


class InstallerToken(SignedModel):
    """Lets one machine enrol as a node of one Atom, once, for 30 to 1,440 minutes. Kept as a hash; atoms/shown_token.py
    has how it is shown to whoever made it."""

    SIGNED = ("atom_id", "account_id", "token_hash", "expires_at", "node_id", "spent_at", "withdrawn_at")
    SIGNERS = WEB
    MINUTES = (30, 1440)
    GRACE = timedelta(minutes=15)  # for a machine that began to enrol in time

    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    atom = models.ForeignKey(Atom, models.CASCADE, related_name="installer_tokens")
    token_hash = models.BinaryField(max_length=32, unique=True)
    expires_at = models.DateTimeField()
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    # The node that is enrolling with it: a second machine with the same token is refused before the first has finished.
    node = models.OneToOneField(Node, models.SET_NULL, null=True, related_name="installer_token")
    spent_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)

    objects = InstallerTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"installer token for {self.atom}"

    @staticmethod
    def new_token(atom_type: str) -> str:
        """A token of the form `atom-<uuid>`, with 122 random bits."""
        return f"{atom_type.lower()}-{uuid.UUID(bytes=secrets.token_bytes(16), version=4)}"

    def is_valid(self) -> bool:
        """Whether this row is genuine, its Atom still of the account it was made for, and no other took its place unused."""
        atom = self.atom
        genuine = self.has_valid_signature() and atom.has_valid_signature() and self.account_id == atom.account_id
        ended = self.spent_at is not None or self.withdrawn_at is not None
        return genuine and (ended or atom.installer_token == self.pk)

    @property
    def is_open(self) -> bool:
        return self.spent_at is None and self.withdrawn_at is None and self.expires_at > timezone.now()
