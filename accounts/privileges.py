"""The privileges a role can hold, under the field's names, and the built-in roles."""

import uuid

from django.db import models


class Privilege(models.TextChoices):
    API = "API", "API Access"
    ATOM_MANAGEMENT = "ATOM_MANAGEMENT", "Atom Management"
    ATOM_MANAGEMENT_READ_ONLY = "ATOM_MANAGEMENT_READ_ONLY", "Atom Management Read Access"
    ATOM_ATTACHMENT = (
        "ATOM_ATTACHMENT",
        "Atom Attachment",
    )  # ours: attaching lets a container read an environment's secrets
    ENV_MANAGEMENT = "ENV_MANAGEMENT", "Environment Management"
    BUILD = "BUILD", "Build"
    VIEW_AUDIT_LOGS = "VIEW_AUDIT_LOGS", "View Audit Logs"
    ACCOUNT_ADMIN = "ACCOUNT_ADMIN", "Account Administration"


READ = (Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY)  # either shows what Atom Management shows

# Well-known ids and names; the migration that creates them reads this table.
BUILT_IN_ROLES: dict[uuid.UUID, tuple[str, tuple[Privilege, ...]]] = {
    uuid.UUID("fcb6dd44-0ca8-11e2-a477-1231381987a5"): ("Administrator", tuple(Privilege)),
    uuid.UUID("fcb6e2d0-0ca8-11e2-a477-1231381987a5"): (
        "Standard User",
        (
            Privilege.ATOM_MANAGEMENT,
            Privilege.ATOM_MANAGEMENT_READ_ONLY,
            Privilege.ATOM_ATTACHMENT,
            Privilege.ENV_MANAGEMENT,
            Privilege.BUILD,
        ),
    ),
    uuid.UUID("fcb6e3b6-0ca8-11e2-a477-1231381987a5"): (
        "Production Support",
        (Privilege.ATOM_MANAGEMENT, Privilege.ATOM_MANAGEMENT_READ_ONLY),
    ),
    uuid.UUID("fcb6e474-0ca8-11e2-a477-1231381987a5"): ("Support", ()),
}
ADMINISTRATOR = uuid.UUID("fcb6dd44-0ca8-11e2-a477-1231381987a5")
