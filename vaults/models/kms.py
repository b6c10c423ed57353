"""Keys: the Key Management Service of an account, recipients and their data keys."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account, Membership, User
from accounts.rows import SignedModel, UuidModel
from atoms.models import Atom, Environment
from kmscore.refused import Refused
from kmscore.vaultclient.mounts import OF_ATOMS, OF_ENVIRONMENTS, RecipientMounts

DOCUMENT_ENTRIES = 500  # data keys a vault document holds; 8,400 would exceed what the vault stores in one


class KmsAccount(SignedModel):
    """The Key Management Service of an account; no row means it was never activated.

    Signed: a writer at the database can neither end its grace period early nor make a disabled one look active.
    """

    SIGNED = ("account_id", "state", "since", "ends_at", "shredded_at", "rotate_every")

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
    shredded_at = models.DateTimeField(null=True)  # when its keys were last shredded: what was sealed before is lost
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    rotate_every = models.PositiveSmallIntegerField(choices=Rotation.choices, default=Rotation.OFF)  # days
    rotated_at = models.DateTimeField(null=True)  # when all in-transit keys were last rotated, or the schedule began

    def __str__(self) -> str:
        return f"KMS of {self.account}: {self.state}"

    @staticmethod
    def is_active(account: Account) -> bool:
        kms = getattr(account, "kms", None)
        if kms is None or kms.state != KmsAccount.State.ACTIVE:
            return False
        return kms.account_id == account.pk and kms.has_valid_signature()

    @classmethod
    def refuse_inactive(cls, account: Account) -> None:
        """Raises Refused: kms_inactive."""
        if not cls.is_active(account):
            raise Refused("kms_inactive", "The Key Management Service of this account is not active.")


class RecipientQuerySet(models.QuerySet["Recipient"]):
    def present(self) -> "RecipientQuerySet":
        """Whose environment or Atom is still there, and whose keys are in the hosted vault."""
        there = Q(pk__in=Environment.objects.values("pk")) | Q(pk__in=Atom.objects.values("pk"))
        return self.filter(there, shredded_at=None).order_by("pk")

    def visible_to(self, membership: Membership) -> "RecipientQuerySet":
        """Those of environments and Atoms the member sees, as long as they have keys."""
        environments = Environment.objects.visible_to(membership).values("pk")
        atoms = Atom.objects.visible_to(membership).values("pk")
        seen = Q(pk__in=environments) | Q(pk__in=atoms)
        return self.filter(seen, account=membership.account_id, shredded_at=None)

    def names(self) -> dict[uuid.UUID, str]:
        """The names of their environments and Atoms by id, of those that are still there: two queries."""
        ids = self.order_by().values("pk")
        environments = Environment.objects.filter(pk__in=ids).values_list("pk", "name")
        return dict(environments) | dict(Atom.objects.filter(pk__in=ids).values_list("pk", "name"))


class Recipient(SignedModel):
    """An environment or an Atom as the hosted vault knows it: its UUID names its key, its role and its documents.

    Signed by the worker that made them: whose it is decides whose disabling and shredding ends them.
    """

    SIGNED = ("account_id", "kind")
    SIGNERS = ("worker",)

    class Kind(models.TextChoices):
        ENVIRONMENT = "environment", "Environment"
        ATOM = "atom", "Atom"

    account = models.ForeignKey(Account, models.CASCADE, related_name="recipients")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    in_transit_version = models.PositiveIntegerField(default=1)  # newest version of its key in transit
    oldest_version = models.PositiveIntegerField(default=1)  # the vault refuses what earlier ones wrapped
    rotated_at = models.DateTimeField(null=True)
    data_keys_made = models.PositiveIntegerField(default=0)  # decides into which document the next one goes
    provisioned_at = models.DateTimeField(default=timezone.now)
    shredded_at = models.DateTimeField(null=True)  # its keys and documents are gone from the vault

    objects = RecipientQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def mounts(self) -> RecipientMounts:
        """Where its UUID names something in the hosted vault."""
        return OF_ATOMS if self.kind == self.Kind.ATOM else OF_ENVIRONMENTS

    @property
    def environment_id(self) -> uuid.UUID | None:
        """The environment it is, or that its Atom is attached to by its rows; None when there is none."""
        if self.kind == self.Kind.ENVIRONMENT:
            return self.pk
        return Atom.objects.filter(pk=self.pk).values_list("attached_to", flat=True).first()

    def next_document(self) -> int:
        return self.data_keys_made // DOCUMENT_ENTRIES


class DataKeyQuerySet(models.QuerySet["DataKey"]):
    def stored(self) -> "DataKeyQuerySet":
        """Those that are in the vault's documents."""
        return self.filter(retired_at=None, lost_at=None)


class DataKey(UuidModel):
    """A data key by its id. The wrapped key itself is only in the hosted vault, in the document `<recipient>/<document>`."""

    class LostBecause(models.TextChoices):
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
    lost_because = models.CharField(max_length=16, choices=LostBecause.choices, blank=True)

    objects = DataKeyQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["recipient", "document"])]

    def __str__(self) -> str:
        return f"data key {self.pk}"


class LostKeys(UuidModel):
    """How many values of an environment were lost at once: the whole of which the re-entry worklist shows the rest."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="losses")
    at = models.DateTimeField()
    because = models.CharField(max_length=16, choices=DataKey.LostBecause.choices)
    count = models.PositiveIntegerField()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.count} values of {self.environment} lost"
