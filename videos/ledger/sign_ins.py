"""Sign-ins: the families of refresh tokens. A token works once; used again, it ends its family.

They are rows, not keys of Redis: a Redis that is away must sign nobody out, and one that comes back older must let no
used token in.
"""

from collections.abc import Collection
from datetime import datetime

from videos.ledger.times import to_stored
from videos.ledger.writer import rows
from videos.models import SignIn


def begin_sign_in(user_id: int, *, newest: str, password: str, expires_at: datetime) -> int:
    """Record a sign-in with its first refresh token; return its id."""
    row = SignIn(user_id=user_id, newest=newest, password=password, expires_at=to_stored(expires_at))
    row.save(using=rows(SignIn).db)
    return row.pk


def rotate_sign_in(
    family: int, user_id: int, *, used: str, newest: str, passwords: Collection[str], expires_at: datetime
) -> bool:
    """Replace the newest token of a sign-in, if it is the one that was used and the password is the same still.

    Otherwise the sign-in ends. One statement decides, so of two that use a token at once one alone is served.
    """
    own = rows(SignIn).filter(pk=family, user_id=user_id)
    if own.filter(newest=used, password__in=passwords).update(newest=newest, expires_at=to_stored(expires_at)):
        return True
    own.delete()
    return False


def end_sign_in(family: int, user_id: int) -> None:
    """Sign out."""
    rows(SignIn).filter(pk=family, user_id=user_id).delete()


def keep_sign_ins(user_id: int, *, old: str, new: str) -> None:
    """Keep the sign-ins of a user whose password is the same, and hashed anew."""
    rows(SignIn).filter(user_id=user_id, password=old).update(password=new)


def forget_sign_ins(now: datetime) -> None:
    """Delete the sign-ins whose newest token has expired."""
    rows(SignIn).filter(expires_at__lt=to_stored(now)).delete()
