"""Tokens in the form of our own are verified in a shorter way, which takes no token that PyJWT would refuse."""

import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videos.api.tokens import ACCESS, LEEWAY_SECONDS, InvalidToken, Token, verify

KEY = "a key that is long enough to sign with, for this module alone"
NOW = int(time.time())
TIMES = st.sampled_from([NOW, NOW - 60, NOW + 60, 0, -1, 1e400, float(NOW + 60), True, str(NOW), None, [NOW], 10**400])
VALUES = st.one_of(TIMES, st.text(max_size=5), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))
TIME_NAMES = st.sampled_from(["exp", "iat"])
NAMES = st.sampled_from(["exp", "iat", "nbf", "jti", "sub", "iss", "aud", "token_type", "user_id", "staff", "other"])


def reference(token: str, key: str) -> Any:
    options: Any = {"require": ["exp", "jti"], "verify_aud": False}
    try:
        return jwt.decode(token, key, algorithms=["HS256"], leeway=LEEWAY_SECONDS, options=options)
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        return None


@settings(max_examples=1000)
@given(
    claims=st.just({}) | st.dictionaries(NAMES, VALUES, max_size=2) | st.dictionaries(TIME_NAMES, TIMES, min_size=1),
    left_out=st.sets(st.sampled_from(["exp", "iat", "jti"]), max_size=1),
    header=st.sampled_from([None, None, None, {"kid": "a"}, {"typ": "at+jwt"}, {"crit": ["b64"], "b64": True}]),
    signed_by=st.sampled_from([KEY, KEY, KEY, "another key that nobody has told the service, and as long"]),
    junk=st.just(("", 0)) | st.tuples(st.sampled_from("=!.é\ud800"), st.integers(0, 300)),
)
def test_a_token_is_taken_only_if_pyjwt_takes_it(
    claims: dict[str, Any], left_out: set[str], header: Any, signed_by: str, junk: tuple[str, int]
) -> None:
    issued = {"exp": NOW + 600, "iat": NOW, "jti": "a", "token_type": "access", "user_id": "1", **claims}
    whole = {name: value for name, value in issued.items() if name not in left_out}
    token = f"{jwt.PyJWS().encode(json.dumps(whole).encode(), signed_by, algorithm='HS256', headers=header)}"
    token = token[: junk[1]] + junk[0] + token[junk[1] :]
    expected = reference(token, KEY)
    try:
        taken, _ = verify(token, kind="access", keys=(KEY,))
    except InvalidToken:
        taken = None
    assert taken is None or taken == expected
    if not claims and not left_out:
        assert taken == expected


def test_our_own_tokens_are_verified_in_the_shorter_way(monkeypatch: pytest.MonkeyPatch) -> None:
    token = jwt.encode(Token(ACCESS, 60, {"user_id": "7"}).claims, KEY, algorithm="HS256")
    monkeypatch.setattr(jwt, "decode", None)
    claims, user_id = verify(token, kind=ACCESS, keys=("an older key, as long as a key has to be today", KEY))
    assert (claims["token_type"], user_id) == (ACCESS, 7)
