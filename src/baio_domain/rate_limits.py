"""How many failed attempts to authenticate are allowed, and from where.

Each limit is a generic cell rate algorithm (GCRA): per key one time is stored, the theoretical arrival time, at which
every failure so far will be forgotten. Source: ITU-T I.371, annex A.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

CLOCK_TOLERANCE = timedelta(seconds=60)
"""How far the clocks of two servers may differ."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``burst`` failures at once, and one more after each ``interval``."""

    burst: int
    interval: timedelta

    def wait(self, arrival_time: datetime | None, now: datetime) -> timedelta:
        """How long to wait before the next attempt; zero when it is allowed now.

        ``arrival_time`` is the stored theoretical arrival time, None when no failure is known.
        """
        tolerance = self.interval * (self.burst - 1)
        return max(timedelta(0), self._believed(arrival_time, now) - now - tolerance)

    def after_failure(self, arrival_time: datetime | None, now: datetime) -> datetime:
        """The theoretical arrival time to store after one more failure."""
        return min(max(self._believed(arrival_time, now), now) + self.interval, now + self.interval * self.burst)

    def _believed(self, arrival_time: datetime | None, now: datetime) -> datetime:
        # Only a clock that was ahead can have stored a time beyond what ``after_failure`` allows.
        latest = now + self.interval * self.burst + CLOCK_TOLERANCE
        return now if arrival_time is None or arrival_time > latest else arrival_time

    def scaled(self, factor: int) -> "RateLimit":
        """The same limit for so many times as many clients."""
        return RateLimit(self.burst * factor, self.interval / factor)


PASSWORD_LIMIT = RateLimit(20, timedelta(minutes=1))
"""Passwords for one account from one network."""

CODE_LIMIT = RateLimit(5, timedelta(minutes=1))
"""One-time codes and recovery codes for one account from one network."""

CODE_LIMIT_ALL_NETWORKS = RateLimit(10, timedelta(minutes=10))
"""One-time codes for one account from anywhere.

Six digits are few, and only somebody who knows the password gets this far. The owner can still sign in with a recovery
code.
"""

PASSWORD_LIMIT_UNKNOWN_NETWORKS = RateLimit(100, timedelta(minutes=1))
"""Consecutive failures for one account from all networks from which its owner has not signed in.

Beyond it these networks together get one attempt a minute. The owner's known networks are never limited by it (NIST SP
800-63B, 5.2.2).
"""

SIGN_IN_LIMIT = RateLimit(100, timedelta(seconds=10))
"""Successful sign-ins to one account: they are no failures, but each costs a hash, a session and an audit entry."""

NETWORK_LIMIT = RateLimit(100, timedelta(seconds=6))
"""All failures from one network."""

NETWORK_LIMIT_UNDER_ATTACK = RateLimit(1, timedelta(seconds=6))
"""All failures from one network while the service as a whole is over ``SERVICE_LIMIT``."""

SERVICE_LIMIT = RateLimit(1000, timedelta(seconds=1))
"""All failures together."""

START_LIMIT = RateLimit(1000, timedelta(seconds=1))
"""Sign-ins with institutions that one network begins: a whole university can be behind one address."""

NETWORK_SCALES = {64: 1, 56: 2, 48: 4}
"""By how much a network's limits grow with an IPv6 prefix: a customer with a /48 has 65,536 networks of 64 bits."""


def per_hour(limit: int) -> RateLimit | None:
    """At most so many in an hour, all of them at once if need be; None for 0, which means no limit."""
    return RateLimit(limit, timedelta(hours=1) / limit) if limit else None


def network_of(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or the 64-bit IPv6 network of one customer (RFC 6177)."""
    return networks_of(address)[0][0]


def networks_of(address: str) -> list[tuple[str, int]]:
    """The networks that an address belongs to, smallest first, each with the factor for its limits.

    An IPv4 address counts alone. An IPv6 address counts with its /64, /56 and /48: providers assign each of these sizes
    to single customers.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return [(address, 1)]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return [
            (str(ipaddress.ip_network((parsed, bits), strict=False)), factor) for bits, factor in NETWORK_SCALES.items()
        ]
    return [(str(getattr(parsed, "ipv4_mapped", None) or parsed), 1)]
