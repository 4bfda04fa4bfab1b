"""How many failed attempts to authenticate are allowed, and from where.

Each limit is a generic cell rate algorithm (GCRA): per key one time is stored, the theoretical arrival time, at which
every failure so far will be forgotten. Source: ITU-T I.371, annex A.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta


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
        return timedelta(0) if arrival_time is None else max(timedelta(0), arrival_time - now - tolerance)

    def after_failure(self, arrival_time: datetime | None, now: datetime) -> datetime:
        """The theoretical arrival time to store after one more failure."""
        return max(arrival_time or now, now) + self.interval


PASSWORD_LIMIT = RateLimit(20, timedelta(minutes=1))
"""Passwords for one account from one network."""

CODE_LIMIT = RateLimit(5, timedelta(minutes=1))
"""One-time codes and recovery codes for one account from one network."""

CODE_LIMIT_ALL_NETWORKS = RateLimit(10, timedelta(minutes=10))
"""One-time codes for one account from anywhere.

Six digits are few, and only somebody who knows the password gets this far. The owner can still sign in with a recovery
code.
"""

NETWORK_LIMIT = RateLimit(100, timedelta(seconds=6))
"""All failures from one network."""

NETWORK_LIMIT_UNDER_ATTACK = RateLimit(1, timedelta(seconds=6))
"""All failures from one network while the service as a whole is over ``SERVICE_LIMIT``."""

SERVICE_LIMIT = RateLimit(1000, timedelta(seconds=1))
"""All failures together."""


def network_of(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or the 64-bit IPv6 network of one customer (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
