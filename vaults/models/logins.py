"""Logins at the hosted vault: how they are handed over, which there are, and which nobody enrolled."""

import uuid
from datetime import timedelta

from django.db import models
from django.utils import timezone

from accounts.models import Account, Membership, User
from accounts.rows import SignedModel, UuidModel
from atoms.models import Atom, Environment, Node


class Enrolment(SignedModel):
    """One hand-over of vault credentials to a node: at installation, after re-attachment, or before the old ones end.

    The worker puts wrapped role_ids here; wrapped secret_ids are made by web when the node asks and are never stored, so
    the database alone opens nothing. Confirming ends it and clears what was wrapped.
    """

    class State(models.TextChoices):
        REQUESTED = "requested", "Waiting for the vault"
        READY = "ready", "Ready to be fetched"
        CONFIRMED = "confirmed", "Confirmed"
        INTRUDED = "intruded", "Opened by somebody else"

    SIGNED = ("node_id", "atom_id", "environment_id", "attachment_revision", "installing")
    REMEMBERED = False  # each step looks at what grants it
    DELIVERIES = 20  # a runtime whose reply was lost asks again; a loop of asking is cut here
    WRAP_SECONDS = 600

    node = models.ForeignKey(Node, models.CASCADE, related_name="enrolments")
    atom = models.ForeignKey(Atom, models.CASCADE, related_name="+")
    environment = models.ForeignKey(Environment, models.SET_NULL, null=True, related_name="+")
    attachment_revision = models.PositiveIntegerField()
    installing = models.BooleanField(default=False)  # confirms the installer token
    state = models.CharField(max_length=16, choices=State.choices, default=State.REQUESTED)
    wrapped_atom_role_id = models.CharField(max_length=200, blank=True)
    wrapped_environment_role_id = models.CharField(max_length=200, blank=True)
    ready_at = models.DateTimeField(null=True)
    deliveries = models.PositiveIntegerField(default=0)
    requested_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-requested_at"]

    def __str__(self) -> str:
        return f"enrolment {self.pk} ({self.state})"

    def is_valid(self) -> bool:
        """Whether this row is genuine and its node still of the Atom it was made for."""
        return self.has_valid_signature() and self.atom_id == self.node.atom_id == self.node.atom.pk

    @property
    def is_stale(self) -> bool:
        """Whether the wrapped role_ids have ended, or soon will, before the node could open them."""
        return bool(self.ready_at and timezone.now() - self.ready_at > timedelta(seconds=self.WRAP_SECONDS - 60))


class SecretId(SignedModel):
    """A secret_id that was issued, by its accessor: enough to destroy it, nothing to log in with.

    Signed: a row slipped into the table does not hide a login that nobody enrolled.
    """

    SIGNED = ("atom_id", "mount", "recipient_id", "accessor")
    REMEMBERED = False  # it grants nothing

    # Rows outlive node and Atom: what was issued must be destroyed even after they are deleted here.
    enrolment = models.ForeignKey(Enrolment, models.SET_NULL, null=True, related_name="secret_ids")
    node = models.ForeignKey(Node, models.SET_NULL, null=True, related_name="secret_ids")
    atom_id = models.UUIDField(db_index=True)
    attachment_revision = models.PositiveIntegerField()
    mount = models.CharField(max_length=16)  # environments or atoms
    recipient_id = models.UUIDField()
    accessor = models.CharField(max_length=64, unique=True)
    issued_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True)
    superseded_at = models.DateTimeField(null=True)  # to be destroyed
    destroyed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"secret_id {self.accessor} at {self.mount}"


class LoginAlarmQuerySet(models.QuerySet["LoginAlarm"]):
    def open(self) -> "LoginAlarmQuerySet":
        return self.filter(closed_at=None)

    def visible_to(self, membership: Membership) -> "LoginAlarmQuerySet":
        """Of the member's account, without those about environments and Atoms the member does not see."""
        seen = [
            *Environment.objects.visible_to(membership).values_list("pk", flat=True),
            *Atom.objects.visible_to(membership).values_list("pk", flat=True),
        ]
        return self.filter(account=membership.account_id, role__in=[str(pk) for pk in seen])


class LoginAlarm(SignedModel):
    """A secret_id in the vault that no enrolment explains: somebody may read what only a runtime should.

    Signed: a row slipped into the table neither keeps an alarm from being raised nor closes one.
    """

    SIGNED = ("account_id", "mount", "role", "accessor", "closed_at")

    account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="login_alarms")  # None: of no account
    mount = models.CharField(max_length=16)  # environments or atoms
    role = models.CharField(max_length=64)  # the recipient's UUID, or a role that is none's
    accessor = models.CharField(max_length=64, unique=True)
    metadata = models.JSONField(default=dict)  # as the vault has it: {atom, node, enrolment}
    issued_at = models.DateTimeField(null=True)
    found_at = models.DateTimeField(default=timezone.now)
    mailed_at = models.DateTimeField(null=True)
    destroyed_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)  # somebody looked into it
    closed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    objects = LoginAlarmQuerySet.as_manager()

    class Meta:
        ordering = ["-found_at"]

    def __str__(self) -> str:
        return f"unknown login, at {self.mount}/{self.role}"


class HeldCredentials(UuidModel):
    """Until when a process's credentials for the hosted vault last, as it last found: nothing is decided by it."""

    process = models.CharField(max_length=16, blank=True)  # web, worker …; "": its file cannot be read
    host = models.CharField(max_length=253)
    looked_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    trouble = models.CharField(max_length=300, blank=True)  # why they were not renewed

    class Meta:
        constraints = [models.UniqueConstraint(fields=["process", "host"], name="held_credentials_once")]

    def __str__(self) -> str:
        return f"credentials of {self.process or 'a process'} on {self.host}"


class LoginWatch(models.Model):
    """One row: when the vault's secret_ids were last compared with the enrolments, and what that counted."""

    LEASE = timedelta(seconds=120)  # longer than a scan of many thousand roles; then another one may start

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    scanned_at = models.DateTimeField(null=True)  # the last scan that came to its end
    roles = models.PositiveIntegerField(default=0)
    secret_ids = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict)  # {account id as 32 hex digits: how many of them are its own}
    failed_at = models.DateTimeField(null=True)  # since when no scan has come to its end
    error_code = models.CharField(max_length=64, blank=True)
    error_sentence = models.CharField(max_length=300, blank=True)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"login watch, last scan {self.scanned_at}"

    @classmethod
    def take(cls) -> uuid.UUID | None:
        """Begin a scan: its lease, or None while another one is under way."""
        now, lease = timezone.now(), uuid.uuid4()
        cls.objects.get_or_create(pk=1)
        ended = models.Q(lease=None) | models.Q(lease_until__lt=now) | models.Q(lease_until__gt=now + cls.LEASE)
        free = cls.objects.filter(pk=1).filter(ended)
        return lease if free.update(lease=lease, lease_until=now + cls.LEASE) else None
