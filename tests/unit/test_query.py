import pytest

from baio_api.query import Day, Flag, Integer, QueryValue


@pytest.mark.parametrize(
    ("query_type", "text", "value"),
    [
        (Integer, "0", 0), (Integer, "-7", -7), (Integer, "+7", 7), (Integer, "007", 7),
        (Integer, "9" * 18, 10**18 - 1), (Day, "2026-01-31", Day(2026, 1, 31)),
        (Flag, "true", True), (Flag, "false", False),
    ],
)  # fmt: skip
def test_a_query_parameter_is_parsed(query_type: type[QueryValue], text: str, value: object) -> None:
    assert query_type.parse(text) == value
    assert type(query_type.parse(text)) is query_type


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000, "-" + "9" * 19])
def test_an_integer_that_no_database_can_hold_is_nobodys_id(digits: str) -> None:
    assert Integer.parse(digits) == -1


@pytest.mark.parametrize(
    ("query_type", "texts"),
    [
        (Integer, ["", " 1", "1 ", "1.0", "1e3", "0x1", "1_000", "٣", "--1", "one"]),
        (Day, ["", "2026-1-31", "20260131", "2026-W05-6", "2026-02-30", "2026-01-31T00:00", "٢٠٢٦-01-31"]),
        (Flag, ["", "1", "0", "on", "True", "yes", "null"]),
    ],
)
def test_what_other_parsers_would_guess_is_refused(query_type: type[QueryValue], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match=r"^is (not an? |neither )"):
            query_type.parse(text)
