"""The production web server: `python -m streaming.serve --host 0.0.0.0 --workers 4`.

granian speaks HTTP/1; this module stands between it and the WSGI callable, because granian's own WSGI interface

- takes a thread for each request whose body has not arrived, so a few half-sent bodies stop it for good,
- writes `X_Forwarded_For` over `X-Forwarded-For`, because both have one name in a WSGI environ, and
- lets requests wait without end when there are more than it can answer.

Here a request whose body has not arrived holds no thread. When the body is there, one of `threads` threads runs the
request, or it waits in a queue; one that would wait too long is answered 503. One thread more begins requests. Headers
with an underscore in their name are left out, as nginx and gunicorn do.

It uses granian's RSGI worker, its scheduler and its server class, which are no public API: requirements pin granian,
and `tests/deploy/test_web_server.py` fails when they change.
"""
