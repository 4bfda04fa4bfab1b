"""Types of query parameters: each is parsed strictly, and carries its OpenAPI schema.

Use them in a handler as ``FromQuery[Integer]``. Litestar's own types are lax, ``1e3`` being an integer and ``on`` a
boolean. Every parameter that can't be parsed is named in the 400 response.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any, ClassVar, Self, get_args

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class QueryValue:
    """The base of the types that a query parameter can have."""

    schema: ClassVar[Schema]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The value, or ValueError with the message for the client."""
        raise NotImplementedError


class Integer(QueryValue, int):
    """An integer. One that no database can hold becomes -1, which is nobody's id and outside every range."""

    schema = Schema(
        type=OpenAPIType.INTEGER,
        format="int64",  # type: ignore[arg-type]  # the enum lacks it
        minimum=-(2**63),
        maximum=2**63 - 1,
    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decimal digits with an optional sign."""
        if not _INTEGER.fullmatch(text):
            raise ValueError("is not an integer")
        return cls(text) if len(text) < 19 else cls(-1)


class Day(QueryValue, date):
    """A date without time."""

    schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE)

    @classmethod
    def parse(cls, text: str) -> Self:
        """YYYY-MM-DD only, out of all that ISO 8601 permits."""
        try:
            return cls.fromisoformat(text if _DAY.fullmatch(text) else "")
        except ValueError:
            raise ValueError("is not a date such as 2026-01-31") from None


class Flag(QueryValue, int):
    """True or false, and false when missing. An int, because Python's bool can't be subclassed."""

    schema = Schema(type=OpenAPIType.BOOLEAN)

    @classmethod
    def parse(cls, text: str) -> Self:
        """``true`` or ``false``."""
        if text not in ("true", "false"):
            raise ValueError("is neither true nor false")
        return cls(text == "true")


class ExportFormat(QueryValue, str):
    """The format of an export."""

    __slots__ = ()

    formats: ClassVar = ("markdown", "json", "eln")
    schema = Schema(type=OpenAPIType.STRING, enum=list(formats))

    @classmethod
    def parse(cls, text: str) -> Self:
        """One of the formats."""
        if text not in cls.formats:
            raise ValueError(f"is not one of {', '.join(cls.formats)}")
        return cls(text)


def sent_name(parameter: FieldDefinition) -> str:
    """The name that a handler's parameter has in requests, which may differ from its name in Python."""
    return getattr(parameter.kwarg_definition, "name", None) or parameter.name


def parameter_schemas(handler: HTTPRouteHandler) -> dict[str, Schema]:
    """The schema of each of the handler's query parameters and headers, by its name in requests.

    A header is a text. What is optional may be missing, but can't be null.
    """
    return {
        sent_name(parameter): _schema(parameter, parameter.kwarg_definition)
        for parameter in handler.parsed_fn_signature.parameters.values()
        if isinstance(parameter.kwarg_definition, ParameterKwarg)
    }


def _schema(parameter: FieldDefinition, declared: ParameterKwarg) -> Schema:
    types = (parameter.annotation, *get_args(parameter.annotation))
    schema = next((each.schema for each in types if _is_query_type(each)), Schema(type=OpenAPIType.STRING))
    default = parameter.default if parameter.has_default else None
    if default is not None:
        default = bool(default) if isinstance(default, Flag) else (str if isinstance(default, str) else int)(default)
    return replace(schema, default=default, **(declared.schema_extra or {}))


def _is_query_type(annotation: Any) -> bool:  # noqa: ANN401 - any annotation
    return isinstance(annotation, type) and issubclass(annotation, QueryValue)


def _parse(query_type: type[QueryValue], text: str) -> QueryValue:
    return query_type.parse(text)


QUERY_DECODERS: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [(_is_query_type, _parse)]
"""The application's ``type_decoders``."""
