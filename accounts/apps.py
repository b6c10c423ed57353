from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import signin_audit  # noqa: F401  (listens to what people change about their signing in)
