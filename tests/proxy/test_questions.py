"""What a request to the origin says, for each kind of question."""

import pytest

from passoproxy.core.cache.cache_control import NOTHING_ASKED
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import made_etag
from passoproxy.core.cache.partial import Holding, as_part
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.cache.reuse import Fetch, Revalidate
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.ranges import Span
from passoproxy.proxy.fetch import Question, head_of
from tests.fakes import request

ENTRY = Entry("k", "1", "p", "GET", "/", 206, fields_of([("ETag", '"a"')]))
PART = as_part(ENTRY, Holding((Span(0, 4),), 10))
RANGED = [
    ("Range", "bytes=2-7"),
    ("If-Range", '"a"'),
    ("If-None-Match", f'"b", {made_etag("0" * 64)}'),
    ("Accept", "x"),
]


def asked(plan, method="GET", fields=RANGED, **more):
    question = Question(request(method, "/", fields), RoutePolicy(), NOTHING_ASKED, "k", "p", (), plan, **more)
    return dict(head_of(question).fields.items())


def test_a_validation_has_the_stored_validators_and_no_range():
    assert asked(Revalidate(ENTRY, None, (ENTRY,), "stale", "")) == {"Accept": "x", "If-None-Match": '"a"'}


def test_a_fetch_is_for_the_whole_and_unconditional():
    assert asked(Fetch("uri-miss", "")) == {"Accept": "x"}


def test_the_clients_conditions_go_along_without_its_range_or_with_it():
    assert asked(Fetch("uri-miss", ""), with_conditions=True) == {"Accept": "x", "If-None-Match": '"b"'}
    assert asked(Fetch("uri-miss", ""), as_asked=True) == {
        "Range": "bytes=2-7",
        "If-Range": '"a"',
        "If-None-Match": '"b"',
        "Accept": "x",
    }


def test_only_the_rest_of_a_part_is_asked_for():
    assert asked(Fetch("partial", "", part=PART)) == {"Accept": "x", "Range": "bytes=5-", "If-Range": '"a"'}


@pytest.mark.parametrize("more", [{"method": "HEAD"}, {"with_conditions": True}])
def test_not_where_it_would_not_do(more):
    assert "Range" not in asked(Fetch("partial", "", part=PART), **more)
