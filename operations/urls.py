from django.urls import path

from operations import views

app_name = "operations"
ACCOUNT = "accounts/<str:code>/operations/"
ONE = f"{ACCOUNT}<uuid:operation_id>/"
urlpatterns = [
    path(ACCOUNT, views.operation_list, name="operation_list"),
    path(ONE, views.operation_detail, name="operation_detail"),
    path(f"{ONE}receipt/", views.operation_receipt, name="operation_receipt"),
    path(f"{ONE}cancel/", views.operation_cancel, name="operation_cancel"),
    path(f"{ONE}resume/", views.operation_resume, name="operation_resume"),
]
