"""Which route a request lives under, and what does not leave."""

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.routes import RouteTable
from passoproxy.proxy.access import Access
from passoproxy.proxy.spool import Spools
from tests.fakes import ScriptedHop, request, response

CREDENTIALS = [
    ("Cookie", "a=b"),
    ("Authorization", "Bearer own"),
    ("Accept", "x"),
    ("X-Forwarded-For", "1.2.3.4"),
    ("Connection", "x-hop"),
    ("X-Hop", "1"),
]


def table(**more):
    return RouteTable([RoutePolicy(name="r", match="/api/**", ttl=1.0, **more)], CacheMode())


def access(hop, table):
    admission = Admission(AdmissionPolicy())
    return Access(hop, lambda: admission, table, Spools())


async def routed(routing, target="/api/x?y"):
    asked = request("GET", target, CREDENTIALS)
    await routing.send(asked)
    return asked, routing._next.seen[-1]


async def test_the_policy_is_found_and_credentials_stay_behind():
    asked, sent = await routed(access(ScriptedHop([response()]), table()))
    assert (sent.policy.name, asked.trail.route) == ("r", "r")
    assert dict(sent.head.fields) == {"Accept": "x"}


async def test_what_a_route_passes_goes_on():
    _, sent = await routed(access(ScriptedHop([response()]), table(pass_cookies=True, pass_client_authorization=True)))
    assert set(sent.head.fields) == {"Accept", "Cookie", "Authorization"}


async def test_an_unlisted_request_and_a_new_table():
    routing = access(ScriptedHop([response(), response()]), table())
    asked, sent = await routed(routing, "/other")
    assert (sent.policy.stores, asked.trail.route) == (False, "")
    routing.table = RouteTable([RoutePolicy(name="new", match="/other", ttl=1.0)], CacheMode())
    _, sent = await routed(routing, "/other")
    assert sent.policy.name == "new"
