"""Refusals: their kinds, what they say, and that each can be found again by its name."""

import inspect
import re

import pytest

from baio_domain import errors
from baio_domain.errors import AnswerInterrupted, AnswerRunning, BaioError, FieldError, InvalidInput, error_of

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, BaioError) and kind is not BaioError
]


def test_every_error_has_a_name_and_a_title_of_its_own() -> None:
    assert len(KINDS) > 20
    assert len({kind.slug for kind in KINDS}) == len(KINDS)
    assert len({kind.title for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug), kind
        assert "slug" in vars(kind), kind
        assert "title" in vars(kind), kind


def test_the_module_draws_every_kind_and_what_it_draws_exists() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    names = {kind.__name__ for kind in KINDS}
    assert set(drawn) <= names
    assert {kind.__name__ for kind in KINDS if BaioError in kind.__bases__} <= set(drawn)


def test_every_error_is_of_one_kind() -> None:
    kinds = [kind for kind in KINDS if BaioError in kind.__bases__]
    for error in KINDS:
        assert sum(issubclass(error, kind) for kind in kinds) == 1, error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_without_a_detail_an_error_says_its_title(kind: type[BaioError]) -> None:
    error = kind()
    assert (error.detail, str(error)) == (kind.title, kind.title)
    assert (error.errors, error.retry_after, error.members) == ((), None, {})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_found_again_by_its_name(kind: type[BaioError]) -> None:
    assert type(error_of(kind.slug)) is kind


@pytest.mark.parametrize("slug", [None, "", "lost", "restart", "no-such-error"])
def test_an_unknown_reason_means_that_this_service_cut_the_answer(slug: str | None) -> None:
    assert type(error_of(slug)) is AnswerInterrupted


def test_an_error_carries_its_detail_its_fields_its_delay_and_further_facts() -> None:
    fields = (FieldError("a", "is bad"),)
    error = AnswerRunning("Not now.", errors=fields, retry_after=2.5, answer_id=7)
    assert (error.detail, error.errors, error.retry_after, error.members) == ("Not now.", fields, 2.5, {"answer_id": 7})
    assert str(error) == "Not now."


def test_bad_input_names_every_field_in_its_detail_too() -> None:
    error = InvalidInput.of(FieldError("a", "is bad"), FieldError("b", "is worse"))
    assert error.detail == "a: is bad; b: is worse"
    assert [each.field for each in error.errors] == ["a", "b"]
    assert type(errors.PromptRefused.of(FieldError("a", "is bad"))) is errors.PromptRefused
