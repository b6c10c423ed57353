from django import forms

from accounts.models import AuditEntry


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(choices=[("system", "System"), ("light", "Light"), ("dark", "Dark")])
    next = forms.CharField(required=False)


class AuditFilterForm(forms.Form):
    """The audit page's filter; every part is optional and in the address."""

    q = forms.CharField(required=False, max_length=80, label="Search messages and people")
    type = forms.ChoiceField(required=False, choices=[("", "Everything"), *AuditEntry.KINDS.items()])
    page = forms.IntegerField(required=False, min_value=1)
