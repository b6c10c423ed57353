from django.apps import AppConfig


class VaultsConfig(AppConfig):
    name = "vaults"

    def ready(self) -> None:
        from vaults import (  # noqa: F401  (registers the operations' handlers)
            ending,
            rekeying,
            retiring,
            revocation,
            rotating,
            rotation,
            shredding,
            tasks,
        )
