"""What a word is, in a text and in a search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videos.words import SEARCH_WORDS, VIDEO_WORDS, WORD_CHARACTERS, Word, words_of, words_to_find

pytestmark = pytest.mark.once

TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("ab 가나다é東京-+👍\u0301")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Red kites, over_hills!", ["red", "kites", "over", "hills"]),
        ("Café Straße ＡＢＣ", ["cafe", "strasse", "abc"]),
        ("cafe\u0301 İstanbul", ["cafe", "istanbul"]),
        ("고양이가 꽃을", ["고양", "양이", "이가", "가", "꽃을", "을"]),
        ("\u1100\u1161\u1102\u1161", ["가나", "나"]),  # as macOS writes names of files
        ("iPhone15프로", ["iphone15", "프로", "로"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "ー"]),
        ("C++ 100% 👩‍🚀❤️", ["c", "+", "100", "👩", "🚀", "❤"]),
        ("हिन्दी", ["हनद"]),
        ("\"'%_\\;--(*)", []),
        ("a a A á", ["a"]),
        ("x" * 99, ["x" * WORD_CHARACTERS]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_words_of_a_title_are_kept_first() -> None:
    found = words_of("last words", " ".join(f"w{i}" for i in range(2 * VIDEO_WORDS)))
    assert (len(found), found[:2]) == (VIDEO_WORDS, ["last", "words"])
    assert len(words_of("가" + "".join(map(chr, range(0xAC00, 0xAC00 + 2 * VIDEO_WORDS))))) == VIDEO_WORDS


def test_a_search_finds_beginnings_of_words_and_pairs_within_them() -> None:
    assert words_to_find("Kit kit 고양이 꽃 👍") == [
        Word("kit", True), Word("고양", False), Word("양이", False), Word("꽃", True), Word("👍", True)
    ]  # fmt: skip
    assert len(words_to_find(" ".join(map(str, range(99))))) == SEARCH_WORDS


@given(TEXTS, TEXTS, TEXTS)
def test_a_text_has_the_words_of_each_of_its_parts(before: str, text: str, after: str) -> None:
    words = words_of(f"{before} {text} {after}")
    for word in words_to_find(text):
        assert any(word.text <= found < word.end if word.beginning else found == word.text for found in words)


@given(TEXTS)
def test_no_word_is_too_long_for_its_column(text: str) -> None:
    for word in words_of(text):
        assert 0 < len(word) <= WORD_CHARACTERS
        assert not set(word) & set(" \0")
        assert word < Word(word, beginning=True).end
        word.encode(), Word(word, beginning=True).end.encode()
