"""Request bodies: JSON is decoded strictly, and one error names every bad field (R5)."""

import codecs
from collections.abc import Generator, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec
from litestar.connection import ASGIConnection
from litestar.dto import AbstractDTO
from litestar.dto.data_structures import DTOFieldDefinition
from litestar.exceptions import HTTPException
from litestar.openapi.spec import Reference, Schema
from litestar.status_codes import HTTP_415_UNSUPPORTED_MEDIA_TYPE
from litestar.typing import FieldDefinition

from baio_domain.errors import FieldError, InvalidInput

T = TypeVar("T")
B = TypeVar("B", bound="Body")


class Body(msgspec.Struct, frozen=True):
    """The base of every request body. Unknown keys are ignored.

    Decoding checks shape only: types, required fields, no NUL. The domain's rules are checked later by the use case,
    which is never reached if the shape is wrong. So that one response can name every bad field all the same, a subclass
    repeats its rules in ``rule_errors``, by calling the domain's functions.
    """

    nonblank_fields: ClassVar[frozenset[str]] = frozenset()
    """Required texts for which a missing one is treated as blank, so that the domain's rules report it."""

    excused_by: ClassVar[Mapping[str, str]] = {}
    """Fields that may be missing because of what another field names. They are required where that one is wrong."""

    names_places: ClassVar[bool] = False
    """Whether an error inside of a field names the place: ``messages[0].role``."""

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Raise an error that takes precedence over those of shape. Called first, with the whole JSON object."""

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """The domain's errors about the fields whose shape is right. Called only if the shape of others is wrong."""
        del fields
        yield from ()


def media_type_of(connection: ASGIConnection[Any, Any, Any, Any], default: str) -> str:
    """What the client says that its body is, in lower case and without parameters; ``default`` if it says nothing."""
    return connection.headers.get("content-type", default).partition(";")[0].strip().lower()


class JSONBody(AbstractDTO[T]):
    """A Litestar DTO that decodes a body strictly into its Struct.

    Litestar's own decoding accepts "1" as an integer, and names only the first bad field.
    """

    model_type: type[T]

    def decode_bytes(self, value: bytes) -> Any:  # noqa: ANN401 - an instance of the handler's Struct
        """Return the Struct. Raises InvalidInput, or HTTPException with status 415 if the content type is not JSON."""
        media_type = media_type_of(self.asgi_connection, "application/json")
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise HTTPException(
                "Send JSON with the header Content-Type: application/json.", status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE
            )
        field = self.asgi_connection.route_handler.parsed_data_field
        return decode(value, field.annotation)

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Do nothing: the Struct is used as it is."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        schema_creator: Any,  # noqa: ANN401 - private to Litestar
    ) -> Reference | Schema:
        """Return the Struct's own schema."""
        del handler_id
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Not used: see ``create_for_field_definition``."""
        del model_type
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Not used: see ``create_for_field_definition``."""
        del field_definition
        return False


def decode(body: bytes, struct: type[B]) -> B:
    """Decode the body. Raises InvalidInput that names every field which is missing, has a wrong type, or holds NUL."""
    try:
        document = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))  # which some clients put in front
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidInput("The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise InvalidInput("The body is not a JSON object.")
    struct.precheck(document)
    good: dict[str, Any] = {}
    errors: list[FieldError] = []
    for field in _fields(struct):
        name = field.encode_name
        if name not in document:
            if name in struct.nonblank_fields:
                good[field.name] = ""
            elif field.required:
                errors.append(FieldError(name, "is required"))
            continue
        try:
            value = msgspec.convert(document[name], field.type, strict=True)
        except msgspec.ValidationError as error:
            message, place = _message(error)
            errors.append(FieldError(f"{name}{place}" if struct.names_places else name, message))
            continue
        if isinstance(value, str) and "\0" in value:
            errors.append(FieldError(name, "must not contain NUL"))
            continue
        good[field.name] = value
    if errors:
        wrong = {error.field for error in errors}
        errors += [
            FieldError(name, "is required")
            for name, other in struct.excused_by.items()
            if name not in document and other in wrong
        ]
        raise InvalidInput.of(*errors, *struct.rule_errors(good))
    return struct(**good)


_fields = cache(msgspec.structs.fields)


def _message(error: msgspec.ValidationError) -> tuple[str, str]:
    """Msgspec's message without the path and the capital: "expected `int`, got `str`"; and the path."""
    text, _, place = str(error).partition(" - at `$")
    return f"{text[:1].lower()}{text[1:]}", place.removesuffix("`")
