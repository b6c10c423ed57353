"""Where in the hosted vault what of ours lies: written by the portal's side, read by the container's. Pure."""

from dataclasses import dataclass
from typing import Final

AUTHORITY: Final = "authority"  # kv v2: what every process believes of the others, written by the installer
KEY_LIST: Final = "portal"  # the document in it
ATREST: Final = "atrest"  # transit: at-rest keys of the Atoms
PLATFORM: Final = "platform"  # approle, below auth/: the portal's own identities
ENVIRONMENTS: Final = "environments"
ATOMS: Final = "atoms"


@dataclass(frozen=True, slots=True)
class RecipientMounts:
    """Where a recipient's UUID names something. Environments and Atoms have mounts of their own: a role on the mount of the
    others opens nothing that is theirs.

    transit: its key in transit, which wraps the data keys of what is saved for it. documents: kv v2, those wrapped data keys.
    logins: approle, below auth/: its role.
    """

    transit: str
    documents: str
    logins: str


OF_ENVIRONMENTS: Final = RecipientMounts("intransit", "datakeys", ENVIRONMENTS)
OF_ATOMS: Final = RecipientMounts("atomtransit", "atomkeys", ATOMS)
OF_RECIPIENTS: Final = (OF_ENVIRONMENTS, OF_ATOMS)
