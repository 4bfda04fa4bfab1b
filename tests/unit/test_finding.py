"""Which texts a query finds, and what is shown of them."""

import time
import unicodedata

import pytest

from baio_domain.finding import MAX_CHARACTERS, MAX_WORDS, SNIPPET_LENGTH, occurs, snippet_of, words_of
from tests.queries import FOUND, NOT_FOUND


@pytest.mark.parametrize(("query", "text"), FOUND.items(), ids=range(len(FOUND)))
def test_a_text_is_found(query: str, text: str) -> None:
    words = words_of(query)
    assert words
    assert occurs(words, words_of(text))
    assert len(snippet_of(text, words)) <= SNIPPET_LENGTH


@pytest.mark.parametrize(("query", "text"), NOT_FOUND.items(), ids=range(len(NOT_FOUND)))
def test_a_text_is_not_found(query: str, text: str) -> None:
    assert not occurs(words_of(query), words_of(text))


@pytest.mark.parametrize("text", ["", " ", "*", "--", "...", "\0", "🧬", "\u0301", "\ud800", "_", "“”"])
def test_some_texts_have_no_words(text: str) -> None:
    assert words_of(text) == ""


def test_no_text_has_more_words_than_a_database_takes() -> None:
    many = "".join(chr(0x4E00 + number) for number in range(20_000))
    assert len(words_of(many).split()) == MAX_WORDS
    for text in ("\ufdfa" * 100_000, "ab " * 100_000, "x" * 10**6, "ß" * 10**6, "한" * 10**6):
        words = words_of(text)
        assert 0 < len(words) <= MAX_CHARACTERS
        assert max(map(len, words.split())) <= 200


def test_many_combining_marks_cost_no_more_than_letters() -> None:
    spent = []
    for text in ("a" + "\u0323\u0591" * 50_000, "å" * 100_000):
        words_of(text)
        began = time.thread_time()
        words_of(text)
        spent.append(time.thread_time() - began)
    assert spent[0] < 20 * spent[1] + 0.1


LONG = f"{'before ' * 100}\n\n the\tCas9\x85 protein {'after ' * 100}"


def test_a_snippet_is_one_line_of_whole_words_around_the_hit() -> None:
    snippet = snippet_of(LONG, "cas9 prot")
    assert snippet.startswith("…before ")
    assert snippet.endswith(" after…")
    assert " the Cas9 protein after " in snippet
    assert len(snippet) <= SNIPPET_LENGTH
    assert snippet_of("Cas9 cuts.", "cuts") == "Cas9 cuts."
    assert snippet_of("x" * 1000, "x") == f"{'x' * (SNIPPET_LENGTH - 1)}…"


@pytest.mark.parametrize("before", ["", "細胞" * 90, "ﬃ" * 90 + " ", "e\u0301" * 200 + " ", "\u1109\u1166 " * 90])
def test_a_snippet_shows_the_hit_whatever_stands_before_it(before: str) -> None:
    snippet = snippet_of(f"{before} Cas9 {'細胞' * 200}", "cas9")
    assert "Cas9" in snippet
    assert snippet == unicodedata.normalize("NFC", snippet) or "e\u0301" in before
    assert len(snippet) <= SNIPPET_LENGTH
