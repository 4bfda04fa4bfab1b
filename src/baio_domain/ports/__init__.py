"""What the domain needs from outside. An adapter subclasses its port explicitly; a docstring here is an obligation."""

from baio_domain.ports.clock import Clock
from baio_domain.ports.gateways import Finished, GatewayFactory, GatewayOptions, Gateways, LLMGateway
from baio_domain.ports.secrets import PasswordHasher, SecretBox, SecretKind, TokenIssuer
from baio_domain.ports.storage import (
    AnswerPart,
    Answers,
    ApiKeys,
    Audit,
    Catalogue,
    CheckpointResult,
    Conversations,
    Database,
    FailedAttempts,
    Idempotency,
    IdempotencyRecord,
    Messages,
    NewAnswer,
    SecondFactors,
    Sessions,
    Transaction,
    Users,
)

__all__ = [
    "AnswerPart",
    "Answers",
    "ApiKeys",
    "Audit",
    "Catalogue",
    "CheckpointResult",
    "Clock",
    "Conversations",
    "Database",
    "FailedAttempts",
    "Finished",
    "GatewayFactory",
    "GatewayOptions",
    "Gateways",
    "Idempotency",
    "IdempotencyRecord",
    "LLMGateway",
    "Messages",
    "NewAnswer",
    "PasswordHasher",
    "SecondFactors",
    "SecretBox",
    "SecretKind",
    "Sessions",
    "TokenIssuer",
    "Transaction",
    "Users",
]
