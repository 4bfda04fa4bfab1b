"""Request bodies: JSON of the right shape, or a refusal that names every bad field at once."""

from collections.abc import Generator, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
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
    """The base of every request body. Unknown keys are ignored."""

    nonblank_fields: ClassVar[frozenset[str]] = frozenset()
    """Texts that the domain refuses when blank: one that is missing counts as blank, and is judged with the rest."""

    @classmethod
    def precheck(cls, document: Mapping[str, Any]) -> None:
        """Raise what has precedence over every other refusal."""

    @classmethod
    def rule_errors(cls, fields: Mapping[str, Any]) -> Iterator[FieldError]:
        """What the domain says against the fields that have the right shape, when others have not."""
        del fields
        yield from ()


class JSONBody(AbstractDTO[T]):
    """Decodes a body strictly into its Struct.

    Litestar's own decoding takes "1" for 1 and names one bad field; clients are promised every one (R5).
    """

    model_type: type[T]

    def decode_bytes(self, value: bytes) -> Any:  # noqa: ANN401 - an instance of the handler's Struct
        """The Struct, or InvalidInput, or 415 for what does not claim to be JSON."""
        media_type = self.asgi_connection.headers.get("content-type", "application/json").partition(";")[0].strip()
        if media_type.lower() != "application/json" and not media_type.lower().endswith("+json"):
            raise HTTPException(
                "Send JSON, with Content-Type: application/json.", status_code=HTTP_415_UNSUPPORTED_MEDIA_TYPE
            )
        field = self.asgi_connection.route_handler.parsed_data_field
        return decoded(value, field.annotation)

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing is generated: the Struct is the shape."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,
        schema_creator: Any,  # noqa: ANN401 - private to Litestar
    ) -> Reference | Schema:
        """The Struct's own schema."""
        del handler_id
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Not needed, see ``create_for_field_definition``."""
        del model_type
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Not needed, see ``create_for_field_definition``."""
        del field_definition
        return False


def decoded(body: bytes, kind: type[B]) -> B:
    """The body as this Struct, or InvalidInput naming every field that is missing, of the wrong type, or holds NUL."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidInput("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise InvalidInput("The body is not a JSON object.")
    kind.precheck(document)
    good: dict[str, Any] = {}
    errors: list[FieldError] = []
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        if name not in document:
            if name in kind.nonblank_fields:
                good[field.name] = ""
            elif field.required:
                errors.append(FieldError(name, "is required"))
            continue
        try:
            value = msgspec.convert(document[name], field.type, strict=True)
        except msgspec.ValidationError as error:
            errors.append(FieldError(name, _said(error)))
            continue
        if isinstance(value, str) and "\0" in value:
            errors.append(FieldError(name, "must not contain NUL"))
            continue
        good[field.name] = value
    if errors:
        raise InvalidInput.of(*errors, *kind.rule_errors(good))
    return kind(**good)


def _said(error: msgspec.ValidationError) -> str:
    """Msgspec's "Expected `int`, got `str`" in the tone of the other messages."""
    text = str(error).partition(" - at ")[0]
    return f"{text[:1].lower()}{text[1:]}"
