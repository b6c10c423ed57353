from django.urls import path

from vaults import views

app_name = "vaults"
urlpatterns = [path("accounts/<str:code>/atoms/<uuid:atom_id>/kms/", views.kms_panel, name="kms_panel")]
