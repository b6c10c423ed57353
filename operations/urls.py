from django.urls import path

from operations import views

app_name = "operations"
urlpatterns = [path("accounts/<str:code>/operations/", views.operation_list, name="operation_list")]
