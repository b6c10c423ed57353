"""What containers told: about their stores, and that they can open what is sealed for them."""

from django.db import models
from django.utils import timezone

from accounts.rows import UuidModel
from atoms.models import Environment, Node
from vaults.models.kms import DataKey
from vaults.models.settings import KmsSettings


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
    preflight = models.JSONField(default=list)  # [{"step", "state", "code", "detail"}], see kmscore/byov/preflight.py
    preflight_at = models.DateTimeField(null=True)
    token = models.JSONField(null=True)  # how long the customer's token works, see kmscore/byov/token.py
    variables = models.JSONField(default=list)  # names of variables the container lacks

    def __str__(self) -> str:
        return f"report of {self.node}: {self.verdict}"


class SelfCheckValue(UuidModel):
    """A worthless value sealed for an environment like its secrets: who opens it could open them."""

    environment = models.OneToOneField(Environment, models.CASCADE, related_name="selfcheck_value")
    data_key = models.ForeignKey(DataKey, models.PROTECT, null=True, related_name="+")
    revision = models.PositiveBigIntegerField(default=0)
    sealed = models.BinaryField(null=True)  # None: the first one is being sealed
    digest = models.BinaryField(max_length=32, default=bytes)  # SHA-256 of the value
    sealed_at = models.DateTimeField(default=timezone.now)
    claimed_at = models.DateTimeField(null=True)  # when a request began to seal the next one

    def __str__(self) -> str:
        return f"test value of {self.environment}"


class SelfCheckResult(UuidModel):
    """When a node last opened its environment's test value, from login to plaintext."""

    node = models.OneToOneField(Node, models.CASCADE, related_name="selfcheck")
    challenge = models.BinaryField(max_length=32)
    asked_at = models.DateTimeField()
    proved_at = models.DateTimeField(null=True)
    environment = models.ForeignKey(Environment, models.SET_NULL, null=True, related_name="+")
    code = models.CharField(max_length=64, blank=True)  # why the last try failed, "" when it did not
    failed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"self-check of {self.node}"
