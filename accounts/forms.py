from django import forms


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(choices=[("system", "System"), ("light", "Light"), ("dark", "Dark")])
    next = forms.CharField(required=False)


AUDIT_KINDS = {
    "as.extensions": "Environment extensions",
    "as.component": "Connection",
    "as.environment": "Environment",
    "as.atom": "Atom",
    "as.atom.properties": "Atom properties",
    "as.atom.kms": "Key Management Service",
    "as.installer": "Installer token",
    "account": "Account",
    "user": "Member",
}


class AuditFilterForm(forms.Form):
    """The audit page's filter; every part is optional and in the address."""

    q = forms.CharField(required=False, max_length=80, label="Search messages and people")
    type = forms.ChoiceField(required=False, choices=[("", "Everything"), *AUDIT_KINDS.items()])
    page = forms.IntegerField(required=False, min_value=1)
