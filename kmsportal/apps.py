from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "kmsportal"

    def ready(self) -> None:
        from kmsportal import checks  # noqa: F401  (registers the system checks)
