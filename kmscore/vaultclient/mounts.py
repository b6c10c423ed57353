"""Where in the hosted vault what of ours lies: written by the portal's side, read by the container's. Pure."""

from typing import Final

# secrets engines
INTRANSIT: Final = "intransit"  # transit: wraps the data keys of what is saved for a recipient
DATAKEYS: Final = "datakeys"  # kv v2: wrapped data keys, by recipient
AUTHORITY: Final = "authority"  # kv v2: what every process believes of the others, written by the installer
ATREST: Final = "atrest"  # transit: at-rest keys of the Atoms
KEY_LIST: Final = "portal"  # the document in it
# logins (approle, below auth/)
PLATFORM: Final = "platform"  # the portal's own identities
ENVIRONMENTS: Final = "environments"  # runtimes, to their environment
ATOMS: Final = "atoms"  # runtimes, to their Atom
