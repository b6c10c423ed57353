from django.apps import AppConfig


class AtomApiConfig(AppConfig):
    name = "atomapi"
