"""Lines that break between words while their text arrives in pieces, on a terminal that is played here."""

from hypothesis import given
from hypothesis import strategies as st

from baio_api.screen import Wrapped, columns


def lines_of(output: str) -> list[str]:
    """What a terminal shows: a backspace goes a column back, and what is written there replaces what was."""
    lines: list[list[str]] = [[]]
    at = 0
    for character in output:
        if character == "\n":
            lines.append([])
            at = 0
        elif character == "\b":
            at -= 1
            assert at >= 0  # no terminal goes back to the line above
        else:
            lines[-1][at : at + 1] = [character]
            at += 1
    return ["".join(line).rstrip() for line in lines]


def shown(pieces: list[str], width: int) -> list[str]:
    wrapped = Wrapped(width)
    return lines_of("".join(map(wrapped.feed, pieces)))


def test_a_word_is_shown_as_it_arrives_and_moves_to_a_new_line_when_it_grows_too_long() -> None:
    wrapped, output, screens = Wrapped(12), "", []
    for piece in ("A codon", " is", "ol", "ated"):
        output += wrapped.feed(piece)
        screens.append(lines_of(output))
    assert screens == [["A codon"], ["A codon is"], ["A codon", "isol"], ["A codon", "isolated"]]


text = st.text(st.sampled_from("abcdefg  \n"), max_size=60)


@given(st.lists(text, max_size=8), st.integers(5, 20))
def test_words_stay_whole_in_order_and_inside_the_width_however_the_text_arrives(pieces: list[str], width: int) -> None:
    whole = "".join(pieces)
    lines = shown(pieces, width)
    assert " ".join(lines).split() == whole.split()
    assert lines == shown([whole], width)
    for line in lines:
        assert len(line) < width or len(line.split()) == 1


def test_wide_combining_and_invisible_characters_take_the_columns_that_they_take() -> None:
    assert [columns(each) for each in ("abc", "日本", "e\u0301", "a\u200db", "")] == [3, 4, 1, 2, 0]
    assert shown(["日本語 日本語"], 10) == ["日本語", "日本語"]
