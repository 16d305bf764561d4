"""The benchmark's own arithmetic: what it draws, how it judges, what it writes. Its servers are tried by `--quick`."""

import os
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import redis

pytest.importorskip("MySQLdb", reason="the benchmarks speak to MariaDB")

from benchmarks import against, parts, report, traffic, wire
from benchmarks.__main__ import TOPICS
from benchmarks.results import RESULTS, Column, Result, Table
from videos import flush


@pytest.fixture
def result() -> Result:
    """Three rounds of two contenders."""
    result = Result("rates")
    for ours, other in ((300, 100), (50, 10), (800, 200)):
        result.add("view", "ours", rate=ours)
        result.add("view", "recipe", rate=other)
        result.add_noise(loop_ms=20.0, other_cpu=0.1)
    return result


@pytest.mark.django_db(transaction=True)
def test_the_scripts_count_by_plain_clients_once_redis_has_met_the_database() -> None:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        scripts = wire.Scripts.loaded(client)
        with pytest.raises(redis.ResponseError, match="UNMET"):
            scripts.view(1, "too soon")
        flush.run_flush()
        scripts.gather(videos=40, views=40, likes=20, users=4, unliked=[(9, 1)])
        assert (scripts.view(1, "v"), scripts.view(1, "v")) == ((True, 2), (False, 2))
        assert (scripts.like(1, 9, True), scripts.like(1, 9, False)) == (2, 1)
        assert (scripts.pending_fields(), scripts.pending_views()) == (
            61,
            41,
        )  # a like that is taken back leaves its field


def test_popular_videos_follow_zipf() -> None:
    drawn = Counter(traffic.popular(200_000, 1_000, seed=1)).most_common(2)
    assert drawn[0][1] / drawn[1][1] == pytest.approx(2, rel=0.1)


def test_distinct_pairs_never_repeat() -> None:
    assert len(set(traffic.distinct_pairs(50, 20, 50 * 20))) == 50 * 20


def test_a_raw_request_says_how_long_its_body_is() -> None:
    assert b"Content-Length: 4\r\n\r\n\xc3\xa4\xc3\xb6" in traffic.Request("POST", "/", body="äö").raw()


def test_a_promise_is_judged_by_the_ratios_within_rounds(result: Result) -> None:
    result.claim("view", "ours over recipe", result.ratios("view", "ours", "recipe"), 4)
    claim = result.claims[0]
    assert (claim.seen, claim.low, claim.high, claim.holds) == (4, 3, 5, True)


def test_a_broken_promise_is_said_to_be_broken(result: Result) -> None:
    result.claim("view", "ours over recipe", result.ratios("view", "ours", "recipe"), 4.5)
    assert "**no**" in report.claims(result.claims)


def test_a_table_shows_median_and_spread(result: Result) -> None:
    shown = Table("view", "views", [Column("rate", "a second", spread=True)])
    assert "| this service | 300 (50–800) |" in report.table(result, shown, report.LABELS)


def test_a_result_is_read_back_as_it_was_saved(result: Result, tmp_path: Path) -> None:
    result.claim("view", "ours over recipe", [4.0], 4)
    result.notes.append(("view", "A note."))
    assert Result.load(result.save(tmp_path)) == result


def test_two_commits_are_compared_by_the_ratios_within_turns() -> None:
    result = Result("against")
    for before, now in ((100, 110), (200, 180), (10, 10)):
        for name, value in (("before", before), ("now", now)):
            result.add("view", name, **{column.key: value for column in against.COLUMNS["view"]})
    table = against.table(result, "view", ["f19b82c", "this checkout"])
    assert "| requests/s | 100 (10–200) | 110 (10–180) | 1.000 (0.900–1.100) | 0.900–1.100 |" in table


@pytest.mark.parametrize("topic", TOPICS)
def test_every_table_of_a_topic_is_on_the_page_as_it_was_measured(topic: str) -> None:
    result, page = Result.load(RESULTS / f"{topic}.json"), report.PAGE.read_text()
    markers = [names.split() for of, names in re.findall(r"<!-- bench: (\w+)((?: \w+)+) -->", page) if of == topic]
    tables = [shown.name for shown in import_module(f"benchmarks.{topic}").TABLES]
    assert [name for names in markers for name in names] == tables == list(result.tables)
    assert [names for names in markers if report.section(result, names) not in page] == []


def test_a_sample_counts_for_the_innermost_part() -> None:
    call = "main (b/inside.py:1);_answer (b/inside.py:2);Handler.__call__ (/s/videos/api/handler.py:3)"
    like = f"{call};set_like (/s/videos/services/likes.py:4);like (/s/videos/counters/requests.py:5)"
    folded = [
        "main (b/inside.py:1);_web (b/inside.py:9) 7",
        f"{call} 1",
        f"{like} 2",
        f"{like};exchange (/s/videos/counters/connection.py:6) 3",
        f"{call};dumps (/usr/lib/python3/json/__init__.py:7) 4",
        "_answer (/s/benchmarks/inside.py:2) 5",
    ]
    assert parts.samples(folded) == {
        "the door: headers of the answer": 1,
        "Redis: keys and arguments of the script": 2,
        "Redis: packed, sent, waited for, parsed": 3,
        "JSON: the body read, the answer written": 4,
    }
