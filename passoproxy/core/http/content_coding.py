"""Which content coding an answer has, and which a client gets (RFC 9110 §8.4, §12.5.3), from its `Accept-Encoding` and what is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from passoproxy.core.http.messages import Fields

_COMPRESSIBLE = (
    "text/",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/x-ndjson",
    "image/svg+xml",
)
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}


def accepted_codings(value: str | None) -> Mapping[str, float]:
    """Weights by coding, lower case, `*` included; without the field nothing but identity is meant (contract §5)."""
    weights: dict[str, float] = {}
    for member in (value or "").split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        if name:
            weights[_ALIASES.get(name.lower(), name.lower())] = _weight(parameters)
    return weights


def content_coding(fields: Fields) -> str:
    """What `Content-Encoding` says over all its lines, lower case; '' for a plain body. Several codings are a list, which names none."""
    value = ", ".join(fields.getall("Content-Encoding", ())).strip().lower()
    return "" if value == "identity" else value


def takes(weights: Mapping[str, float], coding: str) -> float:
    """How much the client wants `coding`, 0 to 1; 0 is a no."""
    return weights.get(coding, weights.get("*", 0.0))


def chosen(weights: Mapping[str, float], makeable: Sequence[str]) -> str:
    """The coding to make for a plain body: the best of `makeable` (best first among equals), or `identity`."""
    best = max(makeable, key=lambda coding: takes(weights, coding))
    wanted = takes(weights, best)
    return best if wanted > 0 and wanted >= weights.get("identity", 0.0) else "identity"


def compressible(content_type: str | None) -> bool:
    """Whether a body of this type gets smaller: text in its many names, not pictures, archives or PDF."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind.startswith(_COMPRESSIBLE) or kind.endswith(("+json", "+xml"))


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0  # an unreadable weight is no wish
    return 1.0
