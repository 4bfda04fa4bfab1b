import pytest

from baio_api.errors import renamed_fields
from baio_domain.errors import FieldError, InvalidInput, WrongCode


def test_errors_name_the_fields_of_the_request_and_keep_everything_else() -> None:
    error = WrongCode(errors=(FieldError("first", "is too late"), FieldError("model", "is unknown")))
    with pytest.raises(WrongCode) as raised, renamed_fields({"first": "from", "last": "to"}):
        raise error
    assert raised.value.errors == (FieldError("from", "is too late"), FieldError("model", "is unknown"))
    assert raised.value.detail == WrongCode.title


def test_a_detail_that_lists_the_fields_names_those_of_the_request() -> None:
    with pytest.raises(InvalidInput) as raised, renamed_fields({"first": "from"}):
        raise InvalidInput.of(FieldError("first", "is too late"))
    assert raised.value.detail == "from: is too late"
