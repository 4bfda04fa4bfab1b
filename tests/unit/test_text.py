"""Unicode in what people type: names in other alphabets, codes from other keyboards, passwords from other machines."""

# ruff: noqa: RUF001 - other alphabets are what it is about

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baio_domain.text import MAX_FOLDED_LENGTH, composed, folded, has_control_characters, name_key, plain_code

characters = st.characters(exclude_categories=["Cs"])
any_text = st.text(characters)


@given(any_text)
def test_folding_twice_is_folding_once(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@given(any_text)
def test_case_and_compatibility_make_no_difference_to_a_folded_text(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        spelled = unicodedata.normalize(form, text)
        assert folded(spelled) == folded(text)
    assert folded(text.casefold()) == folded(text)


def test_a_text_longer_than_any_name_equals_no_other_spelling_of_itself() -> None:
    assert folded("A" * MAX_FOLDED_LENGTH) == "a" * MAX_FOLDED_LENGTH
    marks = "\u0315\u0300" * MAX_FOLDED_LENGTH
    for text in ("A" * (MAX_FOLDED_LENGTH + 1), marks):
        assert folded(text) == text


@given(st.text(string.ascii_letters + string.digits), st.text(string.ascii_letters + string.digits))
def test_two_texts_fold_alike_only_where_they_differ_in_case(one: str, two: str) -> None:
    assert (folded(one) == folded(two)) == (one.lower() == two.lower())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Straße", "STRASSE"),
        ("\uff4f\uff4c\uff45", "ole"),
        ("\u212bse", "åse"),
        ("ﬁn", "FIN"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("²", "2"),
    ],
)
def test_spellings_of_one_name_are_equal(one: str, two: str) -> None:
    assert folded(one) == folded(two)


@pytest.mark.parametrize(
    ("one", "two"), [("ole", "olé"), ("ole", "0le"), ("ole", "оле"), ("a b", "ab"), ("\u0131", "i")]
)
def test_different_names_stay_different(one: str, two: str) -> None:
    assert folded(one) != folded(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("علی\u200cرضا", "علیرضا"),  # a Persian half space, which not every keyboard has
        ("ole\ufe0f", "ole"),
        ("\u2068ole\u2069", "ole"),
        ("Ole  Olsen", "ole\u3000olsen"),
        ("Ole\xa0Olsen", "Ole Olsen"),
        ("ole\u3164", "ole"),
    ],
)
def test_names_between_which_nobody_sees_a_difference_are_equal(one: str, two: str) -> None:
    assert name_key(one) == name_key(two)


@given(any_text)
def test_the_key_of_a_key_is_itself(text: str) -> None:
    assert name_key(name_key(text)) == name_key(text)


@pytest.mark.parametrize("text", ["\u200b", "\u3164\u2800", " \u200d\ufe0f", "\u2066\u2069", "\U000e0020"])
def test_a_name_that_nobody_can_see_is_no_name(text: str) -> None:
    assert name_key(text) == ""


NAMES = [
    "علی\u200cرضا",
    "क्\u200dष",
    "山田\u3000太郎",
    "Anne\xa0Marie",
    "👩\u200d🔬",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u200fשרה",
    "\U000323b0",  # an ideograph of Unicode 15, which Python 3.11 does not know
    "Þóra Ægisdóttir",
    "Nguyễn Thị Ánh",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_world_have_no_control_characters(name: str) -> None:
    assert not has_control_characters(name)


@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\ud83d"]
)
def test_what_ends_a_line_or_steers_a_terminal_is_a_control_character(character: str) -> None:
    assert has_control_characters(f"Ole{character}Olsen")


@pytest.mark.parametrize(
    "spelled",
    [
        "123456",
        "123 456",
        "123\u202f456",
        "１２３４５６",
        "١٢٣٤٥٦",
        "۱۲۳۴۵۶",
        "१२३४५६",
        "\u200b123\u2060456\ufeff",
        "123–456",
        "123\u2011456",
        "123−456",
        "1-2 3—4\u30005\xad6\r\n",
        "𝟏𝟐𝟑𝟒𝟓𝟔",
    ],
)
def test_a_code_from_any_keyboard_is_the_one_that_the_person_meant(spelled: str) -> None:
    assert plain_code(spelled) == "123456"


def test_a_recovery_code_may_be_full_width_and_upper_case() -> None:
    assert plain_code("ＡＢＣ２－def3") == "abc2def3"


@given(any_text)
def test_a_password_is_the_same_from_every_keyboard(password: str) -> None:
    assert composed(unicodedata.normalize("NFD", password)) == composed(password)
