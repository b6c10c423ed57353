from importlib import import_module

from django.apps import AppConfig

# They register themselves: handlers of operations, what runs now and then, the tree's badge.
REGISTERED = (
    "keys.provision",
    "keys.rotation",
    "keys.rotation_worker",
    "keys.rekey",
    "keys.retirement",
    "keys.disable",
    "keys.shred",
    "logins.enrolment",
    "logins.handlers",
    "logins.revocation",
    "logins.watch",
    "panel.badge",
    "renewal",
)


class VaultsConfig(AppConfig):
    name = "vaults"

    def ready(self) -> None:
        for module in REGISTERED:
            import_module(f"vaults.{module}")
