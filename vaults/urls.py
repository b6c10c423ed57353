from django.urls import path

from vaults.views import account, panel, policy, settings

app_name = "vaults"
KMS = "accounts/<str:code>/atoms/<uuid:atom_id>/kms/"
ACCOUNT = "accounts/<str:code>/kms/"
urlpatterns = [
    path(ACCOUNT, account.kms_account, name="kms_account"),
    path(KMS, panel.kms_panel, name="kms_panel"),
    path(f"{KMS}settings/", settings.kms_settings, name="kms_settings"),
    path(f"{KMS}check/", settings.kms_check, name="kms_check"),
    path(f"{KMS}policy/", policy.kms_policy, name="kms_policy"),
    path(f"{KMS}policy/<str:name>", policy.kms_policy_file, name="kms_policy_file"),
]
