from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"

    def ready(self) -> None:
        from accounts import credentials, signin_audit  # noqa: F401  (both listen to what people change about their signing in)
