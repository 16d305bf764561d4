"""django-hitcount, the real package, with its own AJAX view as its manual sets it up: POST /hitcount/hit/ajax/."""

from django.contrib.contenttypes.fields import GenericRelation
from django.db import models
from django.urls import include, path
from hitcount.models import HitCount, HitCountMixin


class Video(models.Model, HitCountMixin):
    """A video whose views are hits."""

    title = models.CharField(max_length=200)
    hit_count_generic = GenericRelation(
        HitCount, object_id_field="object_pk", related_query_name="hit_count_generic_relation"
    )


urlpatterns = [path("hitcount/", include(("hitcount.urls", "hitcount"), namespace="hitcount"))]
