"""How PHP reads the names of query and form fields: names that differ on the wire may be one variable there, of which the last value counts."""

from __future__ import annotations

_UNDERSCORED = str.maketrans(" .[", "___")


def variable(name: str) -> tuple[str, str]:
    """The variable that a decoded name means, and the index behind it (`[…]`, or '').

    Spaces before it and all from a NUL on are no part of it; `.`, space and a `[` that is never closed are read as `_`.
    """
    name = name.lstrip(" ").partition("\0")[0]
    base, bracket, rest = name.partition("[")
    if bracket and "]" not in rest:
        return name.translate(_UNDERSCORED), ""
    return base.translate(_UNDERSCORED), bracket + rest
