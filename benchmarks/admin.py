"""The admin's pages with a million videos, ten million likes and 300,000 batches, opened over HTTP."""

from __future__ import annotations

import http.cookiejar
import re
import time
import urllib.parse
import urllib.request
from dataclasses import replace

from benchmarks.contender import VIDEO, Site
from benchmarks.contenders import OURS, prepare
from benchmarks.results import Column, Result, Run, Table
from servers import Servers, StartFailed, call

VIDEOS, LIKES, BATCHES = 1_000_000, 10_000_000, 300_000
LIKERS = 10  # of each video
SHARDS = 16
HOURS = 24  # of each of the newest videos
VIDEOS_WITH_HOURS = 20_000
TIMES = 5  # that a page is opened in a round; the first one warms up
GOAL_MS = 300
NAME, PASSWORD = "boss", "only-for-this-benchmark"
PAGES = {
    "first": "", "videos": "videos/video/", "by_likes": "videos/video/?o=-4", "last_page": "videos/video/?p=200",
    "words": "videos/video/?q=video", "word": "videos/video/?q=777", "video": "videos/video/{middle}/change/",
    "deletion": "videos/video/{middle}/delete/", "likes": "videos/videolike/", "likes_of": "videos/videolike/?q=user7",
    "hours": "videos/videohour/", "hours_of": "videos/videohour/?q={newest}", "batches": "videos/flushbatch/",
    "rewound": "videos/flushbatch/?rewound__exact=1", "users": "auth/user/", "user": "auth/user/7/delete/",
}  # fmt: skip
LABELS = {
    "first": "first page", "videos": "videos", "by_likes": "videos by likes", "last_page": "the last page of videos",
    "words": "videos with a word that all have", "word": "videos with a word that one has", "video": "a video",
    "deletion": "deletion of a video", "likes": "likes", "likes_of": "likes of a user", "hours": "hours",
    "hours_of": "hours of a video", "batches": "batches", "rewound": "rewound batches", "users": "users",
    "user": "deletion of a user who likes every video",
}  # fmt: skip
TABLES = (
    Table(
        "pages", "a page of the admin", (Column("ms", "median ms", "{:,.0f}"), Column("most", "worst ms", "{:,.0f}"))
    ),
)


def measure(run: Run) -> Result:
    """Open each page in every round."""
    result = Result("admin")
    prepare(run.servers, [OURS])
    videos = run.size(VIDEOS, 500)
    fill(run.servers, videos=videos, likes=run.size(LIKES, 5_000), batches=run.size(BATCHES, 1_000))
    run.say(f"  {videos:,} videos, their likes and batches are there")
    # Over plain HTTP a browser sends no secure cookies, so the service is one that starts embedded.
    with replace(OURS, variables={**OURS.variables, "STREAMING_EMBEDDED": "1"}).serving(run.servers, workers=1) as site:
        browser = _signed_in(site)

        def one(page: str, _: int) -> None:
            path = PAGES[page].format(middle=videos // 2, newest=videos)
            times = [_open(browser, f"{site.url}/admin/{path}") for _ in range(TIMES)][1:]
            result.add("pages", page, ms=sorted(times)[len(times) // 2], most=max(times))
            run.say(f"  {page}: {max(times):,.0f} ms")

        run.alternate(result, list(PAGES), one, at_most=3)
    for page in PAGES:
        seen = result.series("pages", page, "ms")
        result.claim("pages", f"{LABELS[page]}, ms", seen, GOAL_MS, at_least=False)
    return result


def fill(servers: Servers, *, videos: int, likes: int, batches: int) -> None:
    """Rows as a busy site has them, by SQL; and an administrator."""
    OURS.fill(servers, users=1000, videos=1)
    servers.sql("DELETE FROM videos_video", database=OURS.database)
    columns = servers.sql(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        OURS.database, "videos_video",
    )  # fmt: skip
    own = VIDEO | {
        "owner_id": "1 + seq % 1000", "like_count": str(LIKERS), "view_count": "seq * 7919 % 100000",
        "created_at": f"UTC_TIMESTAMP() - INTERVAL ({videos} - seq) SECOND",
    }  # fmt: skip
    values = {name: own.get(name, "''" if kind in {"varchar", "longtext"} else "0") for name, kind in columns}
    minute = f"({batches} - seq) DIV {SHARDS} * 60"
    wrong = "seq % 5000 = 0"
    inserts = {
        f"videos_video ({', '.join(values)})": (", ".join(values.values()), videos),
        "videos_videoword (word, video_id)": ("CAST(seq AS CHAR), seq", videos),
        "videos_videoword (video_id, word)": ("seq, 'video'", videos),
        "videos_videolike (video_id, user_id, created_at)": (
            f"1 + (seq - 1) DIV {LIKERS}, 1 + (seq - 1) % {LIKERS}, UTC_TIMESTAMP() - INTERVAL ({likes} - seq) SECOND",
            likes,
        ),
        "videos_videohour (video_id, hour, likes, views)": (
            (
                f"{videos} - (seq - 1) DIV {HOURS}, DATE_FORMAT(UTC_TIMESTAMP() - INTERVAL (seq - 1) % {HOURS} HOUR, "
                "'%Y-%m-%d %H:00:00'), seq % 7, seq % 900"
            ),
            min(VIDEOS_WITH_HOURS, videos) * HOURS,
        ),
        "videos_flushbatch (shard, number, claimed_at, finished_at, fields, applied, repeated, dropped, rejected, "
        "videos, likes_added, likes_removed, views, postponed, rewound, taken, fence)": (
            (
                f"seq % {SHARDS}, 1 + seq DIV {SHARDS}, UTC_TIMESTAMP(6) - INTERVAL ({minute} + 1) SECOND, "
                f"UTC_TIMESTAMP(6) - INTERVAL ({minute}) SECOND, 1000, IF({wrong}, 998, 1000), 0, {wrong}, {wrong}, "
                "400, 300 + seq % 90, 30, 1200 + seq % 700, '[]', seq % 100000 = 7, 1000, 1"
            ),
            batches,
        ),
    }
    for table, (selected, rows) in inserts.items():
        servers.sql(f"INSERT INTO {table} SELECT {selected} FROM seq_1_to_{rows}", database=OURS.database)
    tables = servers.sql("SHOW TABLES LIKE 'videos\\_%%'")
    servers.sql(f"ANALYZE TABLE {', '.join(table for (table,) in tables)}")
    environment = OURS.environment(servers) | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    command = OURS.manage_command("createsuperuser", "--noinput", "--username", NAME, "--email", "boss@example.com")
    if not servers.sql("SELECT 1 FROM auth_user WHERE username = %s", NAME):
        call(command, environment)


def _signed_in(site: Site) -> urllib.request.OpenerDirector:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    login = f"{site.url}/admin/login/?next=/health/live"
    with browser.open(login) as page:
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
    if token is None:
        raise StartFailed("The admin's login page has no form.")
    form = {"csrfmiddlewaretoken": token[1], "username": NAME, "password": PASSWORD}
    browser.open(login, urllib.parse.urlencode(form).encode()).close()
    return browser


def _open(browser: urllib.request.OpenerDirector, url: str) -> float:
    began = time.perf_counter()
    with browser.open(url, timeout=60) as page:
        text = page.read()
    if b"id_password" in text:
        raise StartFailed(f"The sign-in for {url} failed.")
    return (time.perf_counter() - began) * 1000
