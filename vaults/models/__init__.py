"""Keys: the KMS of an account, recipients and their data keys, enrolments, and what containers reported."""

from vaults.models.keys import RecipientRotation, ShredApproval, ShredCertificate, ShredProof
from vaults.models.kms import DOCUMENT_ENTRIES, DataKey, KmsAccount, LostKeys, Recipient
from vaults.models.logins import Enrolment, HeldCredentials, LoginAlarm, LoginWatch, SecretId
from vaults.models.reports import ContainerReport, SelfCheckResult, SelfCheckValue
from vaults.models.settings import KmsSettings, PropertiesFile

__all__ = [
    "SelfCheckValue",
    "ContainerReport",
    "DOCUMENT_ENTRIES",
    "DataKey",
    "Enrolment",
    "KmsAccount",
    "KmsSettings",
    "LostKeys",
    "SelfCheckResult",
    "PropertiesFile",
    "LoginAlarm",
    "HeldCredentials",
    "LoginWatch",
    "Recipient",
    "RecipientRotation",
    "SecretId",
    "ShredApproval",
    "ShredCertificate",
    "ShredProof",
]
