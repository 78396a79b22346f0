"""RFC 9211: our member of Cache-Status."""

import http_sf
import pytest

from passoproxy.core.cache.cache_status import appended, forwarded, hit
from passoproxy.core.http.messages import fields_of


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (hit(12), "passoproxy; hit; ttl=12"),
        (hit(-1, "STALE_REVALIDATING"), "passoproxy; hit; ttl=-1; detail=STALE_REVALIDATING"),
        (forwarded("bypass"), "passoproxy; fwd=bypass"),
        (
            forwarded("stale", status=503, collapsed=True, ttl=-3.0, detail="STALE_ERROR"),
            "passoproxy; fwd=stale; fwd-status=503; collapsed; ttl=-3; detail=STALE_ERROR",
        ),
        (
            forwarded("uri-miss", status=200, stored=True, ttl=60.0),
            "passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=60",
        ),
    ],
)
def test_members(member, text):
    assert member == text
    ((name, parameters),) = http_sf.parse(member.encode(), tltype="list")
    assert name == "passoproxy"
    assert parameters


def test_ours_is_the_last():
    assert appended(fields_of(), "m") == "m"
    assert appended(fields_of([("Cache-Status", "a; hit"), ("cache-status", "b")]), "m") == "a; hit, b, m"
