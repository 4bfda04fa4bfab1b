"""What the JSON of several subjects shares: ids, counts, times."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Id = Annotated[int, Meta(extra_json_schema={"format": "int64", "minimum": 1, "maximum": 2**63 - 1})]
"""An id in a response."""

SentId = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra_json_schema={"format": "int64"})]
"""An id in a request: anything that a database can hold. Ids below 1 are nobody's, so they are not found."""

Count = Annotated[int, Meta(extra_json_schema={"format": "int64", "minimum": 0})]
"""A number of tokens, messages or answers."""

Time = Annotated[datetime, Meta(tz=True)]
"""A time with its offset, which is UTC. Without ``tz`` the OpenAPI document would not have its format."""

JSONObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
"""An object of JSON that is encoded already."""

Examples = dict[str, Any]

EXAMPLE_PASSWORD = "oleSterktPassord123"  # noqa: S105 - an example

EXAMPLE_CODE = "492039"

EXAMPLE_SYSTEM_MESSAGE = {
    "role": "system",
    "content": "You are BAiO, a chat bot who is an expert on biology and genomic data.",
    "created_at": "2024-01-15T10:00:00.000001Z",
}
