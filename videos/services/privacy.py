"""What the service holds of a user."""

from typing import Any

from django.contrib.auth import get_user_model

from videos import counters, ledger
from videos.services.database import database
from videos.services.likes import recent_marks
from videos.services.outcomes import Unavailable, UserNotFound


def export_user(*, name: str) -> dict[str, Any]:
    """All that rows and Redis hold of the user of this name. Raises UserNotFound, Unavailable."""
    model = get_user_model()
    with database(patient=True):
        user_id = ledger.rows(model).filter(**{model.USERNAME_FIELD: name}).values_list("pk", flat=True).first()
        if user_id is None:
            raise UserNotFound
        found = ledger.rows_of_user(user_id)
    marks, away = recent_marks(user_id=user_id)
    if away:
        raise Unavailable
    try:
        traces = counters.traces_of_user(user_id)
    except counters.CountersUnavailable as error:
        raise Unavailable from error
    waiting = [{"video": video_id, "value": state.value, "at_ms": state.at_ms} for video_id, state in marks.items()]
    return found | {"likes_that_wait_for_the_flush": waiting, "keys_in_redis": traces}
