"""The second factor: time-based one-time passwords (RFC 6238) and recovery codes."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

STEP_SECONDS = 30
DIGITS = 6
DRIFT = 1
"""How many steps the user's clock may be off, either way (RFC 6238, section 5.2)."""

MAX_CODE_LENGTH = 256
"""Characters of the longest text that is looked at: any code or link of ours, with spaces and dashes to spare."""

RECOVERY_CODES = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # without what is mistaken for something else when written down


def new_seed() -> str:
    """A random seed of 160 bits, as long as SHA-1's output (RFC 4226, section 4), in Base32."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def enrolment_uri(seed: str, username: str) -> str:
    """The ``otpauth`` URI that an authenticator app reads, usually as a QR code."""
    query = f"secret={seed}&issuer=BAiO&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}"
    return f"otpauth://totp/BAiO:{quote(username, safe='')}?{query}"


def one_time_code(seed: str, counter: int) -> str:
    """The code of this step: HMAC-SHA-1 and dynamic truncation (RFC 4226, section 5.3)."""
    digest = hmac.digest(base64.b32decode(seed), counter.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def counter_at(now: datetime) -> int:
    """The number of the step that this moment lies in."""
    return int(now.timestamp()) // STEP_SECONDS


def latest_counter(now: datetime) -> int:
    """The latest step whose code may be accepted now."""
    return counter_at(now) + DRIFT


def counter_of(code: str, seed: str, now: datetime, *, after: int) -> int | None:
    """The earliest step within the drift and after ``after`` whose code this is, or None.

    An ``after`` that no code can have reached yet comes from a clock that was ahead, and does not count. Every step is
    compared, in constant time: the duration discloses nothing about the code.
    """
    steps = range(counter_at(now) - DRIFT, counter_at(now) + DRIFT + 1)
    given = tidied(code).encode()
    matching = [step for step in steps if hmac.compare_digest(one_time_code(seed, step).encode(), given)]
    return next((step for step in matching if step > after or after > latest_counter(now)), None)


def is_one_time(code: str) -> bool:
    """Whether this has the form of a one-time code; anything else is taken for a recovery code."""
    given = tidied(code)
    return len(given) == DIGITS and given.isascii() and given.isdecimal()


def recovery_codes() -> list[str]:
    """New random recovery codes, in groups that can be written down: each has 118 bits."""
    return ["-".join(_group() for _ in range(4)) for _ in range(RECOVERY_CODES)]


def digest_of(code: str) -> bytes:
    """The digest that is stored of a code or link too long to be guessed (OWASP ASVS 5.0, 6.5.2)."""
    return hashlib.sha256(tidied(code).encode()).digest()


def tidied(code: str) -> str:
    """The code in the form that is compared: without the spaces and dashes that people type.

    A text that is too long for a code becomes the empty one, which matches none.
    """
    if len(code) > MAX_CODE_LENGTH:
        return ""
    return "".join(_kept(code)).casefold()


def _kept(code: str) -> Iterator[str]:
    yield from (character for character in code if not character.isspace() and character != "-")


def _group() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(6))
