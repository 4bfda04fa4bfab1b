"""Parameters that endpoints of several subjects take."""

from typing import Annotated

from litestar.params import HeaderParameter, QueryParameter

from baio_api.query import Flag, Integer
from baio_domain.idempotency import MAX_IDEMPOTENCY_KEY_LENGTH

NO = Flag(0)

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="Up to 255 characters. A request that is repeated with its key within 24 hours takes effect once.",
        schema_extra={"max_length": MAX_IDEMPOTENCY_KEY_LENGTH},
    ),
]

ConversationId = Annotated[
    Integer, QueryParameter(description="The conversation's id, as in getConversations and createConversation.")
]
