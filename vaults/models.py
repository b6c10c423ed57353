"""Keys: the KMS of an account, recipients and their data keys, enrolments, and what containers reported."""

import hmac
import json
import uuid
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from accounts.models import Account, User
from accounts.rows import SignedModel, UuidModel, signature
from atoms.models import Atom, Environment, Node
from operations.models import Operation

DOCUMENT_ENTRIES = 500  # data keys a vault document holds; 8,400 would exceed what the vault stores in one


class KmsAccount(SignedModel):
    """The Key Management Service of an account; no row means it was never activated.

    Signed: a writer at the database can neither end its grace period early nor make a disabled one look active.
    """

    SIGNED = ("account_id", "state", "since", "ends_at")

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        DISABLED = "disabled", "Disabled"  # its roles are gone from the vault, nothing else is; until `ends_at`
        SHREDDED = "shredded", "Shredded"  # its keys are gone, or are going just now

    class Rotation(models.IntegerChoices):
        OFF = 0, "Off"
        MONTHLY = 30, "Every 30 days"
        QUARTERLY = 90, "Every 90 days"
        YEARLY = 365, "Every 365 days"

    account = models.OneToOneField(Account, models.CASCADE, related_name="kms")
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    since = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(null=True)  # of the grace period
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    rotate_every = models.PositiveSmallIntegerField(choices=Rotation.choices, default=Rotation.OFF)  # days
    rotated_at = models.DateTimeField(null=True)  # when all in-transit keys were last rotated, or the schedule began

    def __str__(self) -> str:
        return f"KMS of {self.account}: {self.state}"

    @staticmethod
    def is_active(account: Account) -> bool:
        kms = getattr(account, "kms", None)
        return kms is not None and kms.state == KmsAccount.State.ACTIVE and kms.is_genuine()


class Recipient(models.Model):
    """An environment or an Atom as the hosted vault knows it: its UUID names its key, its role and its documents."""

    class Kind(models.TextChoices):
        ENVIRONMENT = "environment", "Environment"
        ATOM = "atom", "Atom"

    id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(Account, models.CASCADE, related_name="recipients")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    in_transit_version = models.PositiveIntegerField(default=1)  # newest version of its key in intransit/
    oldest_version = models.PositiveIntegerField(default=1)  # the vault refuses what earlier ones wrapped
    rotated_at = models.DateTimeField(null=True)
    data_keys_made = models.PositiveIntegerField(default=0)  # decides into which document the next one goes
    provisioned_at = models.DateTimeField(default=timezone.now)
    shredded_at = models.DateTimeField(null=True)  # its keys and documents are gone from the vault

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def mount(self) -> str:
        """Where its role is."""
        return "atoms" if self.kind == self.Kind.ATOM else "environments"

    def next_document(self) -> int:
        return self.data_keys_made // DOCUMENT_ENTRIES


class DataKey(UuidModel):
    """A data key by its id. The wrapped key itself is only in the hosted vault, in `datakeys/<recipient>/<document>`."""

    class Loss(models.TextChoices):
        SHREDDED = "shredded", "Shredded"  # on purpose: containers drop what it sealed
        RESTORED = "restored", "Missing after a restore"  # containers keep what they hold

    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="data_keys")
    document = models.PositiveIntegerField()
    key_version = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    unused_since = models.DateTimeField(null=True)  # when it was first seen that nothing is sealed with it any more
    retired_at = models.DateTimeField(null=True)  # left the vault's documents
    # The vault has it no more, and what was sealed with it has to be entered again.
    lost_at = models.DateTimeField(null=True)
    lost_because = models.CharField(max_length=16, choices=Loss.choices, blank=True)

    class Meta:
        indexes = [models.Index(fields=["recipient", "document"])]

    def __str__(self) -> str:
        return f"data key {self.pk}"


class Loss(UuidModel):
    """How many values of an environment were lost at once: the whole of which the re-entry worklist shows the rest."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="losses")
    at = models.DateTimeField()
    because = models.CharField(max_length=16, choices=DataKey.Loss.choices)
    count = models.PositiveIntegerField()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.count} values of {self.environment} lost"


class KmsSettings(UuidModel):
    """How one Atom's secrets are sealed at rest. No row, or no `sealed`, means that nobody ever changed them: hosted vault.

    What the container obeys is `sealed`, a vaults.kms_settings.KmsDocument sealed for the Atom; the columns beside it are
    what people are shown, and carry the portal's signature, so that no page repeats what was written past it.
    """

    class Mode(models.TextChoices):
        HOSTED = "hosted", "Hosted vault"
        BYOV = "byov", "Bring Your Own Vault"

    atom = models.OneToOneField(Atom, models.CASCADE, related_name="kms_settings")
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.HOSTED)
    wrapped = models.BooleanField(default=False)
    revision = models.PositiveIntegerField(default=1)
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="+")
    sealed = models.BinaryField(null=True)
    mac = models.BinaryField(max_length=32, default=bytes)
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(wrapped=False) | models.Q(mode="byov"), name="wrapped_needs_bring_your_own_vault"
            )
        ]

    def __str__(self) -> str:
        return f"KMS settings of {self.atom}"

    @property
    def is_byov(self) -> bool:
        return self.mode == self.Mode.BYOV

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.mac = self._signature()
        super().save(*args, **kwargs)

    def is_genuine(self) -> bool:
        return hmac.compare_digest(bytes(self.mac), self._signature())

    def _signature(self) -> bytes:
        return signature(self._meta.label, self.atom_id, self.mode, self.wrapped, self.revision)


class PropertiesFile(UuidModel):
    """The properties file of an Atom's own vault: sealed for the Atom, so that the portal cannot read it again.

    facts: what vaults.properties.facts_of says may be shown. content_mac: HMAC of the content under the row key, which tells
    the same file from another one without keeping it.
    """

    atom = models.OneToOneField(Atom, models.CASCADE, related_name="properties_file")
    name = models.CharField(max_length=120)
    revision = models.PositiveIntegerField()  # of the settings it was uploaded with
    data_key = models.ForeignKey(DataKey, models.PROTECT, related_name="+")
    sealed = models.BinaryField()
    content_mac = models.BinaryField(max_length=32)
    facts = models.JSONField(default=dict)
    mac = models.BinaryField(max_length=32, default=bytes)  # facts become commands on a page: they carry a signature
    uploaded_at = models.DateTimeField(default=timezone.now)
    uploaded_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.mac = self._signature()
        super().save(*args, **kwargs)

    def is_genuine(self) -> bool:
        return hmac.compare_digest(bytes(self.mac), self._signature())

    def _signature(self) -> bytes:
        facts = json.dumps(self.facts, sort_keys=True)  # a database may give the keys in another order
        return signature(self._meta.label, self.atom_id, self.name, self.revision, facts)


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

    def holds(self) -> bool:
        """Whether this row is genuine and its node still of the Atom it was made for."""
        return self.is_genuine() and self.atom_id == self.node.atom_id

    @property
    def is_stale(self) -> bool:
        """Whether the wrapped role_ids have ended, or soon will, before the node could open them."""
        return bool(self.ready_at and timezone.now() - self.ready_at > timedelta(seconds=self.WRAP_SECONDS - 60))


class SecretId(SignedModel):
    """A secret_id that was issued, by its accessor: enough to destroy it, nothing to log in with.

    Signed: a row slipped into the table does not hide a reader that nobody enrolled.
    """

    SIGNED = ("atom_id", "mount", "recipient_id", "accessor")

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


class ContainerReport(UuidModel):
    """What a node last said about its store: which key protects it, which revision it holds, and what is wrong."""

    node = models.OneToOneField(Node, models.CASCADE, related_name="report")
    reported_at = models.DateTimeField()
    source = models.CharField(max_length=8, choices=KmsSettings.Mode.choices, default=KmsSettings.Mode.HOSTED)
    wrapped = models.BooleanField(default=False)
    key_name = models.CharField(max_length=200, blank=True)
    key_version = models.PositiveIntegerField(default=0)
    sealed_at = models.DateTimeField(null=True)  # when the store was last sealed under a new at-rest data key
    environment = models.ForeignKey(Environment, models.SET_NULL, null=True, related_name="+")
    revision = models.PositiveBigIntegerField(default=0)
    values = models.PositiveIntegerField(default=0)
    verdict = models.CharField(max_length=64, default="ok")
    sentence = models.CharField(max_length=300, blank=True)
    # Bring Your Own Vault: which settings the store is sealed for, and how the customer's vault answered.
    settings_revision = models.PositiveIntegerField(default=1)
    rekey_revision = models.PositiveIntegerField(default=0)  # the newest request for a new at-rest data key it has met
    preflight = models.JSONField(default=list)  # [{"step", "state", "code", "detail"}], see vaults/preflight.py
    preflight_at = models.DateTimeField(null=True)
    token = models.JSONField(null=True)  # how long the customer's token works, see vaults/lifecycle.py
    variables = models.JSONField(default=list)  # names of variables the container lacks

    def __str__(self) -> str:
        return f"report of {self.node}: {self.verdict}"


class RecipientRotation(UuidModel):
    """One recipient's part of a rotation: where it is, so that a killed worker goes on from there."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        REWRAPPED = "rewrapped", "Rewrapped"  # until settle_at: a save in flight may still add an old one
        SETTLED = "settled", "Settled"  # earlier versions are refused by the vault
        FAILED = "failed", "Failed"

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="rotations")
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="rotations")
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    from_version = models.PositiveIntegerField(null=True)  # of its in-transit key, before
    to_version = models.PositiveIntegerField(null=True)
    rewrapped = models.PositiveIntegerField(default=0)
    late = models.PositiveIntegerField(default=0)  # rewrapped on the second reading
    broken = models.PositiveIntegerField(default=0)  # the vault could not rewrap these
    settle_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "recipient"], name="rotated_once")]
        ordering = ["recipient_id"]

    def __str__(self) -> str:
        return f"rotation of {self.recipient}: {self.state}"


class ReaderAlarm(SignedModel):
    """A secret_id in the vault that no enrolment explains: somebody may read what only a runtime should.

    Signed: a row slipped into the table neither keeps an alarm from being raised nor closes one.
    """

    SIGNED = ("account_id", "mount", "role", "accessor", "closed_at")

    account = models.ForeignKey(Account, models.CASCADE, null=True, related_name="reader_alarms")  # None: of no account
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

    class Meta:
        ordering = ["-found_at"]

    def __str__(self) -> str:
        return f"reader nobody enrolled, at {self.mount}/{self.role}"


class ReaderWatch(models.Model):
    """One row: when the vault's secret_ids were last compared with the enrolments, and what that counted."""

    LEASE = timedelta(seconds=120)  # longer than a look at many thousand roles; then another one may start

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    looked_at = models.DateTimeField(null=True)  # the last look that came to its end
    roles = models.PositiveIntegerField(default=0)
    secret_ids = models.PositiveIntegerField(default=0)
    counts = models.JSONField(default=dict)  # {account id as 32 hex digits: how many of them are its own}
    failed_at = models.DateTimeField(null=True)  # since when no look has come to its end
    error_code = models.CharField(max_length=64, blank=True)
    error_sentence = models.CharField(max_length=300, blank=True)
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"watch for readers, last look {self.looked_at}"

    @classmethod
    def take(cls) -> uuid.UUID | None:
        """Begin a look: its lease, or None while another one is under way."""
        now, lease = timezone.now(), uuid.uuid4()
        cls.objects.get_or_create(pk=1)
        free = cls.objects.filter(pk=1).filter(models.Q(lease=None) | models.Q(lease_until__lt=now))
        return lease if free.update(lease=lease, lease_until=now + cls.LEASE) else None


class Canary(UuidModel):
    """A worthless value sealed for an environment like its secrets: who opens it could open them."""

    environment = models.OneToOneField(Environment, models.CASCADE, related_name="canary")
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="+")
    revision = models.PositiveBigIntegerField(default=0)
    sealed = models.BinaryField(null=True)  # None: the first one is being sealed
    digest = models.BinaryField(max_length=32, default=bytes)  # SHA-256 of the value
    sealed_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True)  # when a request began to seal the next one

    def __str__(self) -> str:
        return f"canary of {self.environment}"


class Proof(UuidModel):
    """When a node last opened its environment's canary, from login to plaintext."""

    node = models.OneToOneField(Node, models.CASCADE, related_name="proof")
    challenge = models.BinaryField(max_length=32)
    asked_at = models.DateTimeField()
    proved_at = models.DateTimeField(null=True)
    environment = models.ForeignKey(Environment, models.SET_NULL, null=True, related_name="+")
    code = models.CharField(max_length=64, blank=True)  # why the last try failed, "" when it did not
    failed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"proof of {self.node}"


class ShredApproval(SignedModel):
    """One administrator's word that an account's keys may be destroyed at once. Two people's are needed."""

    SIGNED = ("operation_id", "account_id", "user_id", "given_at")

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="shred_approvals")
    account = models.ForeignKey(Account, models.CASCADE, related_name="+")
    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "user"], name="approved_once")]

    def __str__(self) -> str:
        return f"{self.user} approves {self.operation_id}"


class ShredProof(UuidModel):
    """What the vault answered to a rewrap of one of a recipient's wrapped data keys, before and after its key was deleted."""

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="shred_proofs")
    recipient = models.ForeignKey(Recipient, models.CASCADE, related_name="+")
    data_key = models.UUIDField(null=True)  # whose wrapped form was tried; None: it never had one
    before = models.PositiveSmallIntegerField(null=True)  # status
    after = models.PositiveSmallIntegerField(null=True)
    data_keys = models.PositiveIntegerField(default=0)  # how many its documents held
    shredded_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["operation", "recipient"], name="shredded_once")]
        ordering = ["recipient_id"]

    def __str__(self) -> str:
        return f"shred proof of {self.recipient}"


class ShredCertificate(UuidModel):
    """What was destroyed, when, on whose word, and what remains elsewhere. Kept for good and never changed."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="shred_certificates")
    operation = models.OneToOneField(Operation, models.PROTECT, related_name="shred_certificate")
    made_at = models.DateTimeField(default=timezone.now)
    document = models.JSONField()
    mac = models.BinaryField(max_length=32)  # over the document's canonical JSON, under the audit key

    class Meta:
        ordering = ["-made_at"]

    def __str__(self) -> str:
        return f"shred certificate of {self.account}"
