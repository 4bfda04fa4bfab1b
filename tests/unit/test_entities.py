"""The rules that hold for each thing wherever it is stored."""

import dataclasses
import string
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from baio_domain import entities
from baio_domain.entities import (
    MAX_FOLDED_LENGTH,
    ApiKey,
    Model,
    Provider,
    User,
    account_problems,
    content_problems,
    folded,
    key_problems,
    password_problems,
    refuse,
    refuse_fixed,
    title_problems,
)
from baio_domain.errors import FieldError, Forbidden, InvalidInput
from baio_domain.idempotency import idempotency_problems
from tests.unit.world import OPENAI, START

# -- Spellings ---------------------------------------------------------------------------------------------------------

characters = st.characters(exclude_categories=["Cs"])
any_text = st.text(characters)


@given(any_text)
def test_folding_twice_is_folding_once(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@pytest.mark.parametrize("field", ["first_name", "last_name", "username"])
def test_a_password_is_not_compared_with_a_name_that_is_too_long(field: str) -> None:
    for length, refused in ((150, "password"), (151, field)):
        stated = {field: "klorofyll ".ljust(length, "x"), "password": "klorofyll7"}
        assert {each.field for each in account_problems(stated, frozenset())} == {refused}


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


# -- Models ------------------------------------------------------------------------------------------------------------

MODELS = tuple(Model.of(number, 1, spec) for number, spec in enumerate(OPENAI.models, 1))
PROVIDER = Provider(1, "OpenAI", MODELS)
spaces = st.text(st.sampled_from(" \t\r\n\u3000\xa0"), max_size=3)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[Model, str]:
    model = draw(st.sampled_from(MODELS))
    name = draw(st.sampled_from([model.identifier, model.name]))
    upper = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    spelled = "".join(each.upper() if up else each.lower() for each, up in zip(name, upper, strict=True))
    return model, draw(spaces) + spelled + draw(spaces)


@given(spellings())
def test_every_spelling_of_a_model_means_that_model(spelling: tuple[Model, str]) -> None:
    model, wanted = spelling
    assert PROVIDER.model(wanted) is model


@given(any_text | st.sampled_from(["gpt-4", "gpt-4o-", "gpt 4o", "o1", "GPT-4o  mini", "gpt_4o", "1", "openai"]))
def test_anything_else_is_refused_with_all_that_is_accepted(wanted: str) -> None:
    known = {folded(name) for model in MODELS for name in (model.identifier, model.name)}
    assume(folded(wanted.strip()) not in known)
    with pytest.raises(InvalidInput) as refused:
        PROVIDER.model(wanted)
    assert [error.field for error in refused.value.errors] == ["model"]
    assert "accepted: gpt-4o, gpt-4o-mini, o1-preview, o1-mini" in refused.value.detail


# -- Passwords ---------------------------------------------------------------------------------------------------------

COMMON = frozenset({"correct horse", "strasse123", "password1"})
NOBODY = ("", "", "", "")


def why(password: str, own_words: tuple[str, ...] = NOBODY) -> str:
    return "; ".join(error.message for error in password_problems(password, own_words, COMMON))


@given(st.text(characters, max_size=7))
def test_a_password_of_fewer_than_8_characters_is_refused(password: str) -> None:
    assert why(password) == "must have at least 8 characters"


@given(st.text(characters, min_size=1, max_size=8), st.integers(129, 1100))
def test_a_password_of_more_than_1024_characters_is_refused(part: str, times: int) -> None:
    password = part * times
    assert (why(password) == "must have at most 1024 characters") == (len(password) > 1024)


@given(st.text(st.characters(categories=["Nd"]), min_size=8, max_size=30))
def test_digits_alone_are_refused_in_any_script(password: str) -> None:
    assert why(password) == "must not consist of digits only"


@given(st.sampled_from(sorted(COMMON)), st.lists(st.booleans(), min_size=20, max_size=20))
def test_a_common_password_is_refused_in_any_case(password: str, upper: list[bool]) -> None:
    spelled = "".join(each.upper() if up else each for each, up in zip(password, upper, strict=False))
    assert why(spelled) == "is one of the most common passwords"
    assert why("Straße123") == "is one of the most common passwords"


words = st.text(string.ascii_lowercase, min_size=8, max_size=20)


@given(words, st.sampled_from(["{}", "{}1", "1{}", "{}!!"]), st.sampled_from(["{}", "{}@example.no", "ole {}", "x.{}"]))
def test_a_users_own_word_is_refused_with_little_added(word: str, password: str, own: str) -> None:
    spelled = password.format(word.swapcase())
    assume(not {word, spelled.lower()} & set(COMMON))
    for place in range(4):
        own_words = tuple(own.format(word) if place == each else "" for each in range(4))
        assert why(spelled, own_words) == "is too close to your username, name or email"


@given(
    st.text(string.ascii_letters + string.digits + "æøå -!", min_size=8, max_size=1024), st.lists(any_text, max_size=4)
)
def test_a_password_is_judged_once_and_alike_whatever_the_users_words_are(password: str, own_words: list[str]) -> None:
    problems = list(password_problems(password, own_words, COMMON))
    assert len(problems) <= 1
    assert {problem.field for problem in problems} <= {"password"}
    if not problems:
        assert why(password) == ""


@given(st.text("abcdefgh", min_size=8, max_size=64))
def test_a_password_that_shares_nothing_with_the_users_words_is_accepted(password: str) -> None:
    assert why(password, ("xyz", "xyz@xyz.no", "Xyz", "Øyvind")) == ""


@pytest.mark.parametrize(
    ("password", "word", "refused"),
    [
        ("abcdefgxyz", "abcdefghij", True),  # 7 of 10 characters shared: a ratio of exactly 0.7
        ("abcdefvxyz", "abcdefghij", False),
        ("zyxgfedcba", "abcdefghij", True),  # in whichever order
        ("kristian99", "Kristian", True),
        ("kristian-9-kristian-9", "Kristian", False),
    ],
)
def test_from_a_likeness_of_0_7_on_a_word_is_too_close(password: str, word: str, refused: bool) -> None:  # noqa: FBT001 - a parameter
    assert bool(why(password, (word, "", "", ""))) is refused


def test_short_words_of_the_user_forbid_nothing() -> None:
    assert why("lilililili", ("li", "li@li.no", "Li", "")) == ""


def test_a_long_password_and_long_words_are_judged_quickly() -> None:
    assert why("ab" * 512, ("ba" * 75, "ab" * 100 + "@example.no", "a" * 150, "b" * 150)) == ""


# -- Accounts ----------------------------------------------------------------------------------------------------------


def test_a_field_that_is_absent_is_not_judged() -> None:
    assert list(account_problems({}, frozenset())) == []
    assert list(account_problems({"country": ""}, frozenset())) == []


def test_the_password_is_compared_with_the_words_that_come_with_it() -> None:
    fields = {"username": "hildegard", "password": "hildegard1"}
    assert [problem.field for problem in account_problems(fields, frozenset())] == ["password"]


fields = st.dictionaries(
    st.sampled_from(["first_name", "last_name", "username", "email", "password", "country", "position"]), any_text
)


@given(fields)
def test_only_fields_that_were_sent_are_named_and_no_password_is_repeated(sent: dict[str, str]) -> None:
    mark = "\N{DNA DOUBLE HELIX}"  # stands in none of the messages
    marked = {name: f"{mark}{text}" if name == "password" else text for name, text in sent.items()}
    problems = list(account_problems(marked, COMMON))
    assert {problem.field for problem in problems} <= set(sent)
    assert all(mark not in problem.message for problem in problems)


@given(st.text(st.sampled_from("a.@-\n é"), max_size=40))
def test_what_is_taken_for_an_email_has_a_name_and_a_domain_with_dots_inside(email: str) -> None:
    if not list(account_problems({"email": email}, frozenset())):
        name, domain = email.strip().split("@")
        assert name
        assert all(domain.split("."))
        assert len(domain.split(".")) > 1


def test_an_email_made_to_be_slow_is_judged_quickly() -> None:
    assert list(account_problems({"email": "a@" + "a." * 125 + "@"}, frozenset()))
    assert list(account_problems({"email": "a@" + "a" * 250}, frozenset()))


@pytest.mark.parametrize("field", ["username", "email", "password"])
def test_what_a_second_factor_guards_is_forbidden_and_nothing_else(field: str) -> None:
    refuse_fixed({"first_name": "Ole", "usernames": "x"})
    with pytest.raises(Forbidden):
        refuse_fixed({"first_name": "Ole", field: None})


def test_refusing_names_everything_and_nothing_is_no_refusal() -> None:
    refuse([])
    with pytest.raises(InvalidInput) as refused:
        refuse(FieldError(name, "is bad") for name in "ab")
    assert refused.value.errors == (FieldError("a", "is bad"), FieldError("b", "is bad"))
    assert refused.value.detail == "a: is bad; b: is bad"


# -- Conversations, keys and requests ----------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_a_title_has_at_most_255_characters_whichever_they_are(title: str) -> None:
    assert [error.field for error in title_problems(title)] == ["title"] * (len(title) > 255)


@pytest.mark.parametrize("size", [254, 255, 256])
def test_a_titles_limit_is_exactly_255(size: int) -> None:
    assert len(list(title_problems("\N{DNA DOUBLE HELIX}" * size))) == (size > 255)


@given(any_text)
def test_a_question_is_anything_but_blank(content: str) -> None:
    assert [error.field for error in content_problems(content)] == ["content"] * (not content.strip())


visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=100)


@given(visible, st.text(characters, min_size=1, max_size=255), spaces, spaces)
def test_a_key_of_visible_ascii_and_any_nickname_can_be_stored(
    key: str, nickname: str, before: str, after: str
) -> None:
    assume(nickname.strip())
    assert list(key_problems(before + key + after, before + nickname + after)) == []


def test_every_visible_ascii_character_may_stand_in_a_key() -> None:
    assert list(key_problems("".join(map(chr, range(0x21, 0x7F))), "nickname")) == []


@given(any_text, any_text)
def test_a_key_that_would_break_a_header_is_refused_and_so_is_a_blank_nickname(key: str, nickname: str) -> None:
    bad_key = not key.strip() or not all(0x21 <= ord(each) <= 0x7E for each in key.strip())
    bad_nickname = not nickname.strip() or len(nickname.strip()) > 255
    named = {error.field for error in key_problems(key, nickname)}
    assert ("key" in named, "nickname" in named) == (bad_key, bad_nickname)


@pytest.mark.parametrize(("size", "problems"), [(4096, 0), (4097, 1)])
def test_a_keys_limit_is_4096(size: int, problems: int) -> None:
    assert len(list(key_problems(f" {'k' * size} ", "nickname"))) == problems


@pytest.mark.parametrize(("size", "problems"), [(255, 0), (256, 1)])
def test_a_nicknames_limit_is_255(size: int, problems: int) -> None:
    assert len(list(key_problems("key", f" {'é' * size} "))) == problems


@given(any_text)
def test_an_idempotency_key_is_printable_and_has_1_to_255_characters(key: str) -> None:
    fine = bool(key.strip()) and key.isprintable() and len(key) <= 255
    assert [error.field for error in idempotency_problems(key)] == ["idempotency_key"] * (not fine)
    assert list(idempotency_problems(None)) == []


# -- All of them -------------------------------------------------------------------------------------------------------


def test_entities_are_frozen_and_slotted() -> None:
    found = [each for each in vars(entities).values() if dataclasses.is_dataclass(each) and isinstance(each, type)]
    assert len(found) > 10
    for entity in found:
        assert entity.__dataclass_params__.frozen, entity  # type: ignore[attr-defined]
        assert hasattr(entity, "__slots__"), entity


def test_the_repr_of_an_entity_shows_no_hash_and_no_ciphertext() -> None:
    user = User(1, "ole", "o@e.no", "O", "N", "", "", "", "", "$argon2id$secret", START, None)
    key = ApiKey(1, 1, 1, "OpenAI Key", b"sealed-secret", START)
    assert "secret" not in repr((user, key))
