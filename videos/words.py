"""The words of a text, as VideoWord holds them, and the words of a search. The same for every engine.

A word is a run of letters and digits, in lower case and without accents. Chinese, Japanese, Korean and the scripts of
South-East Asia write no space between words, or add endings to them. There each pair of neighbouring letters is a word,
and so is the last letter of a run. A symbol, such as an emoji, is a word of its own. Punctuation is ignored.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

WORD_CHARACTERS: Final = 24  # longer words are cut to this
VIDEO_WORDS: Final = 500  # different words that are kept of a video: those of the title first
SEARCH_WORDS: Final = 10

_ACCENTS: Final = re.compile("[\u0300-\u036f]+")
_OTHERS: Final = re.compile(r"[^\w\s]")
_PAIRED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_RUNS: Final = re.compile(rf"([{_PAIRED}]+)|[^\W_{_PAIRED}]+|[^\w\s]")


class Word(NamedTuple):
    """A word of a search. A `beginning` is found in all words that begin with it."""

    text: str
    beginning: bool

    @property
    def end(self) -> str:
        """The first text after all those that begin with this word."""
        return self.text[:-1] + chr(ord(self.text[-1]) + 1)  # no letter or symbol stands before the surrogates


def words_of(*texts: str) -> list[str]:
    """The different words of the texts, at most VIDEO_WORDS."""
    found: dict[str, None] = {}
    for text in texts:
        for run, paired in _runs(text):
            if paired:
                found.update((run[i : i + 2], None) for i in range(len(run)))
            else:
                found[run[:WORD_CHARACTERS]] = None
            if len(found) >= VIDEO_WORDS:
                return list(found)[:VIDEO_WORDS]
    return list(found)


def words_to_find(text: str) -> list[Word]:
    """The first SEARCH_WORDS different words of a search."""
    found: dict[Word, None] = {}
    for run, paired in _runs(text):
        if paired and len(run) > 1:
            found.update((Word(run[i : i + 2], beginning=False), None) for i in range(len(run) - 1))
        else:
            found[Word(run[:WORD_CHARACTERS], beginning=True)] = None
    return list(found)[:SEARCH_WORDS]


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """The runs of a text, and whether a run's pairs of letters are its words."""
    folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    for match in _RUNS.finditer(_OTHERS.sub(_symbol, unicodedata.normalize("NFC", folded.casefold()))):
        yield match[0], match[1] is not None


def _symbol(match: re.Match[str]) -> str:
    """A symbol stays. Marks and joiners, which stand within a word, go; punctuation becomes a space."""
    kind = unicodedata.category(match[0])
    return match[0] if kind.startswith("S") else "" if kind.startswith("M") or kind == "Cf" else " "
