from django.urls import path

from vaults.views import account, alarms, disable, panel, policy, rekey, rotation, settings

app_name = "vaults"
KMS = "accounts/<str:code>/atoms/<uuid:atom_id>/kms/"
ACCOUNT = "accounts/<str:code>/kms/"
urlpatterns = [
    path(ACCOUNT, account.kms_account, name="kms_account"),
    path(f"{ACCOUNT}disable/", disable.kms_disable, name="kms_disable"),
    path(f"{ACCOUNT}enable/", disable.kms_enable, name="kms_enable"),
    path(f"{ACCOUNT}shred/", disable.kms_shred, name="kms_shred"),
    path(f"{ACCOUNT}shred/approve/", disable.kms_shred_approve, name="kms_shred_approve"),
    path(f"{ACCOUNT}shred/withdraw/", disable.kms_shred_withdraw, name="kms_shred_withdraw"),
    path(f"{ACCOUNT}certificates/<uuid:certificate_id>/", disable.shred_certificate, name="shred_certificate"),
    path(f"{ACCOUNT}logins/<uuid:alarm_id>/destroy/", alarms.login_alarm_destroy, name="login_alarm_destroy"),
    path(f"{ACCOUNT}logins/<uuid:alarm_id>/close/", alarms.login_alarm_close, name="login_alarm_close"),
    path(f"{ACCOUNT}rekey/", rekey.rekey_all, name="rekey_all"),
    path(f"{ACCOUNT}rotate/", rotation.rotate_all, name="rotate_all"),
    path(f"{ACCOUNT}schedule/", rotation.rotation_schedule, name="rotation_schedule"),
    path(
        "accounts/<str:code>/environments/<uuid:environment_id>/rotate/",
        rotation.rotate_environment,
        name="rotate_environment",
    ),
    path(KMS, panel.kms_panel, name="kms_panel"),
    path(f"{KMS}settings/", settings.kms_settings, name="kms_settings"),
    path(f"{KMS}check/", settings.kms_check, name="kms_check"),
    path(f"{KMS}rekey/", rekey.rekey_atom, name="rekey_atom"),
    path(f"{KMS}rotate/", rotation.rotate_atom, name="rotate_atom"),
    path(f"{KMS}policy/", policy.kms_policy, name="kms_policy"),
    path(f"{KMS}policy/<str:name>", policy.kms_policy_file, name="kms_policy_file"),
]
