"""The passolution preset against the resources of the Dataservice."""

from __future__ import annotations

import pytest

from passoproxy.config.settings import RouteSettings
from passoproxy.core.http.paths import compile_pattern
from tests.config.writing import Folder

HOUR, DAY = 3600.0, 86400.0

RESOURCES: list[tuple[str, str, float | None, bool]] = [
    # path under /api/v2, route, seconds of freshness, stored for POST too
    ("/health", "health", None, False),
    ("/version", "version", 300.0, False),
    ("/account/subscription", "account-subscription", HOUR, False),
    ("/auth/login/generate_link", "auth", None, False),
    ("/countries", "countries", DAY, False),
    ("/countries/de/locations", "locations", DAY, False),
    ("/nationalities", "nationalities", DAY, False),
    ("/languages", "languages", DAY, False),
    ("/tour-operators", "tour-operators", DAY, False),
    ("/entry/documents", "entry-documents", DAY, False),
    ("/entry/additional-info", "entry-additional-info", DAY, False),
    ("/health/immunizations", "immunizations", DAY, False),
    ("/destinations", "destinations", HOUR, True),
    ("/information/search", "information-search", HOUR, True),
    ("/information/share", "information-share", None, False),
    ("/information/updates", "information-updates", None, False),
    *((f"/content/all/{each}", "content-all", HOUR, True) for each in ("html", "text", "pdf")),
    *((f"/content/country/{each}", "content-country", 6 * HOUR, True) for each in ("html", "pdf")),
    *((f"/content/overview/{each}", "content-overview", HOUR, True) for each in ("json", "html", "pdf")),
    *((f"/content/entry/{each}", "content-entry", HOUR, True) for each in ("json", "html", "text", "pdf")),
    *((f"/content/visa/{each}", "content-visa", HOUR, True) for each in ("json", "html", "text", "pdf")),
    *((f"/content/transit_visa/{each}", "content-transit-visa", HOUR, True) for each in ("html", "text", "pdf")),
    *((f"/content/health/{each}", "content-health", HOUR, True) for each in ("json", "html", "text", "pdf")),
    ("/infosystem/general", "infosystem-general", 300.0, False),
    ("/infosystem/passolution", "infosystem-passolution", HOUR, False),
    ("/travel-details", "travel-details", None, False),
    ("/travel-details/abc", "travel-details", None, False),
    ("/travel-details/media", "travel-details", None, False),
    ("/individual-content", "individual-content", 300.0, False),
    ("/individual-content/order", "individual-content", 300.0, False),
    ("/tour-operator/ABC", "tour-operator", 300.0, False),
]


@pytest.fixture
def routes(folder: Folder) -> tuple[RouteSettings, ...]:
    return folder.load().settings.routes


def _found(routes: tuple[RouteSettings, ...], path: str) -> RouteSettings | None:
    return next((route for route in routes if compile_pattern(route.match).matches(path)), None)


def test_every_resource_has_its_route(routes: tuple[RouteSettings, ...]) -> None:
    for path, name, ttl, post in RESOURCES:
        route = _found(routes, f"/api/v2{path}")
        assert route is not None, path
        assert (route.name, route.ttl, "POST" in route.methods) == (name, ttl, post), path
        # the framework's default `no-cache, private` would forbid what only ttl allows
        assert route.override == (ttl is not None), path


def test_what_is_not_listed_has_no_route(routes: tuple[RouteSettings, ...]) -> None:
    for path in ("/api/v2/unknown", "/api/v1/countries", "/__internal/x", "/", "/api/v2/content/new/html"):
        assert _found(routes, path) is None


def test_no_route_is_without_a_resource(routes: tuple[RouteSettings, ...]) -> None:
    assert {route.name for route in routes} == {name for _, name, _, _ in RESOURCES}


def test_requirements_pass_with_side_effects_and_last_a_day_without_origin_or_login(
    routes: tuple[RouteSettings, ...],
) -> None:
    for route in routes:
        if "requirements" in route.tags:
            assert {*route.bypass_when.query_has, *route.bypass_when.body_has} == {"trip", "subscribe", "mark_visited"}
            assert route.stale_if_error == route.stale_if_unauthorized == DAY
            assert route.stale_while_revalidate <= 300.0
        if route.ttl is not None:
            assert route.volatile_fields == ("requestid", "responsetime")
            assert route.tags


def test_account_content_is_private_and_writes_purge_what_it_is_mixed_into(routes: tuple[RouteSettings, ...]) -> None:
    by_name = {route.name: route for route in routes}
    assert {name for name, route in by_name.items() if route.private} == {
        "travel-details",
        "auth",
        "content-all",
        "individual-content",
        "tour-operator",
        "account-subscription",
    }
    known = {tag for route in routes for tag in route.tags}
    assert "content-all" in by_name["individual-content"].purges
    assert "content-all" in by_name["tour-operator"].purges
    assert {tag for route in routes for tag in route.purges} <= known | {"travel-details"}
