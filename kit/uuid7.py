"""Event ids: UUIDv7 (RFC 9562, section 5.7), time-ordered and increasing within a process."""

import random
import threading
import time
from uuid import UUID

_random = random.SystemRandom()
_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new id. Its first 48 bits are Unix milliseconds; within a millisecond, ids count up from a
    random start."""
    global _last
    ms = time.time_ns() // 1_000_000
    with _lock:
        if ms > _last >> 74:
            # the top bit is left free, to count without overflowing
            _last = ms << 74 | _random.getrandbits(73)
        else:
            _last += 1 + random.getrandbits(32)
        value = _last
    high, low = value >> 74, value & ((1 << 74) - 1)
    return UUID(int=high << 80 | 0x7 << 76 | (low >> 62) << 64 | 0b10 << 62 | low & ((1 << 62) - 1))
