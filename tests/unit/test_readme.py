"""The README's settings tables are true: each setting stands in them, with the default that it has."""

import ast
import re

import pytest

from servers import ROOT
from videos.conf import AppSettings, Setting

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
KEYS = (ROOT / "videos" / "counters" / "keys.py").read_text()
SHOWN_ELSEWHERE = {"THROTTLE_RATES"}  # a mapping, too long for a table
pytestmark = pytest.mark.once


def setting_names() -> list[str]:
    """The settings that the app reads."""
    return [name for name, value in vars(AppSettings).items() if isinstance(value, Setting)]


@pytest.mark.parametrize("name", setting_names())
def test_setting_stands_in_the_readme_with_its_default(name: str) -> None:
    [row] = re.findall(rf"^\| `VIDEOS_{name}` \| (.*?) \|", README, re.MULTILINE)
    if name in SHOWN_ELSEWHERE:
        assert row == "see `conf.py`"
        return
    assert ast.literal_eval(row.strip("`")) == vars(AppSettings)[name].default


@pytest.mark.parametrize("key", sorted(set(re.findall(r'"(videos:\w+)"', KEYS))))
def test_architecture_names_every_key_that_is_no_shards(key: str) -> None:
    assert f"| `{key}` |" in ARCHITECTURE


def test_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"`VIDEOS_([A-Z_]+)`", README))
    assert named == set(setting_names())


def test_each_variable_of_the_environment_stands_in_the_readme() -> None:
    source = (ROOT / "streaming" / "settings.py").read_text()
    read = set(re.findall(r'(?:environ\.get|env\.\w+|_required|_number|_whole|_flag|_level)\("([A-Z_]+)"', source))
    table = README.split("### Settings", 1)[1].split("In Django's settings", 1)[0]
    assert read - set(re.findall(r"`([A-Z_]+)`", table)) == set()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)|`(test_\w+\.py)`", README))))
def test_what_the_readme_points_at_is_there(target: tuple[str, str]) -> None:
    page, test = target
    assert (ROOT / page).is_file() if page else list((ROOT / "tests").rglob(test))


@pytest.mark.parametrize("line", re.findall(r"^curl .*$", README, re.MULTILINE))
def test_lines_to_try_leave_nothing_to_the_shell(line: str) -> None:
    command = line.partition(" # ")[0]
    assert not set("?*[") & set(re.sub(r'"[^"]*"', "", command))  # zsh takes them for file names, and stops
