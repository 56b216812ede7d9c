"""The only source of chance: seeded, and apart per purpose, so that a fault left out changes no other draw."""

from __future__ import annotations

from random import Random


def chance(seed: int, purpose: str) -> Random:
    """Return the draws of one purpose. A text as seed is hashed by SHA-512, the same under every hash seed."""
    return Random(f"{seed}/{purpose}")  # noqa: S311  it has to be repeatable, not secret


def below(random: Random, limit: int) -> int:
    """Return a number from 0 up to, but not, `limit`: what `randrange` returns, at a third of its cost."""
    bits = limit.bit_length()
    while (number := random.getrandbits(bits)) >= limit:
        pass
    return number
