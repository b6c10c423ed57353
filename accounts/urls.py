from django.urls import path

from accounts import views

app_name = "accounts"
urlpatterns = [
    path("", views.account_list, name="account_list"),
    path("theme/", views.theme, name="theme"),
    path("accounts/<str:code>/audit/", views.audit_log, name="audit_log"),
]
