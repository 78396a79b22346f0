"""Who may ask, and for what (contract §3 "Reading of some keys", §6)."""

from __future__ import annotations

from base64 import b64encode

import pytest
import yaml

from passoproxy.core.access import Admission, AdmissionPolicy, KeyHolder, client_key
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.errors import BadRequest, ClientNotAllowed, HostNotAllowed, MethodNotAllowed, NotHere, PathNotAllowed

OPEN = Admission(AdmissionPolicy())


def asking(
    authority: str = "localhost", target: str = "/", version: tuple[int, int] = (1, 1), scheme: str = "http"
) -> RequestHead:
    fields = fields_of([("Host", authority)] if authority else [])
    return RequestHead("GET", target, fields, authority, scheme, version)


# ---- Host --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "authority"),
    [
        ("localhost", "localhost"),
        ("localhost", "LOCALHOST:1234"),
        ("LocalHost", "localhost:"),
        ("[::1]", "[0:0:0:0:0:0:0:1]:8610"),
        ("::1", "[::1]"),
        ("sidecar:8610", "sidecar:8610"),
        ("sidecar:80", "sidecar"),
        ("name.", "name."),
    ],
)
def test_listed_hosts_are_allowed(allowed: str, authority: str) -> None:
    assert Admission(AdmissionPolicy(allowed_hosts=(allowed,))).authority(asking(authority)) == authority


@pytest.mark.parametrize(
    ("allowed", "authority"),
    [
        ("localhost", "localhost."),
        ("localhost", "localhost.evil.example"),
        ("localhost", "evil.localhost"),
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.1"),
        ("127.0.0.1", "2130706433"),
        ("127.0.0.1", "0x7f.0.0.1"),
        ("[::1]", "[::2]"),
        ("sidecar:8610", "sidecar:8611"),
        ("sidecar:8610", "sidecar"),
        ("sidecar:443", "sidecar"),
        ("sidecar:80", "sidecar:0"),
    ],
)
def test_other_hosts_are_refused_with_the_line_that_would_allow_them(allowed: str, authority: str) -> None:
    policy = AdmissionPolicy(allowed_hosts=(allowed, "[::9]"))
    with pytest.raises(HostNotAllowed) as refused:
        Admission(policy).authority(asking(authority))
    line = yaml.safe_load(refused.value.detail)
    assert "\n" not in refused.value.detail
    extended = Admission(AdmissionPolicy(allowed_hosts=tuple(line["server"]["allowed_hosts"])))
    assert extended.authority(asking(authority)) == authority
    assert extended.authority(asking(allowed)) == allowed


def test_the_default_port_is_that_of_the_scheme() -> None:
    admission = Admission(AdmissionPolicy(allowed_hosts=("sidecar:443",)))
    assert admission.authority(asking("sidecar", scheme="https")) == "sidecar"


def test_http_1_0_without_host_asks_the_first_allowed_host() -> None:
    assert OPEN.authority(asking("", version=(1, 0))) == "localhost"


def test_an_empty_or_invalid_host_is_not_let_in() -> None:
    with pytest.raises(HostNotAllowed):
        OPEN.authority(RequestHead("GET", "/", fields_of([("Host", "")]), "", "http", (1, 0)))
    with pytest.raises(HostNotAllowed):
        Admission(AdmissionPolicy(allowed_hosts=())).authority(asking("", version=(1, 0)))
    with pytest.raises(BadRequest):
        OPEN.authority(asking("user@localhost"))


def test_a_listed_host_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="'a b'"):
        Admission(AdmissionPolicy(allowed_hosts=("a b",)))


# ---- client keys -------------------------------------------------------------------------------------------------------

KEYED = Admission(AdmissionPolicy(client_keys=(client_key("shop", "open sesame"), client_key("crm", "näh:doch"))))


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("pairs", "holder"),
    [
        ([("X-Passoproxy-Key", "open sesame")], KeyHolder("shop")),
        ([("x-passoproxy-key", "näh:doch")], KeyHolder("crm")),
        ([("Authorization", basic("shop:open sesame"))], KeyHolder("shop", by_basic=True)),
        ([("Authorization", "bAsIc  " + basic("crm:näh:doch")[6:])], KeyHolder("crm", by_basic=True)),
        ([("X-Passoproxy-Key", "open sesame"), ("Authorization", "Bearer own")], KeyHolder("shop")),
        (
            [("X-Passoproxy-Key", "open sesame"), ("Authorization", basic("shop:open sesame"))],
            KeyHolder("shop", by_basic=True),
        ),
    ],
)
def test_a_right_key_names_its_holder(pairs: list[tuple[str, str]], holder: KeyHolder) -> None:
    assert KEYED.key_holder(fields_of(pairs)) == holder


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("X-Passoproxy-Key", "")],
        [("X-Passoproxy-Key", "open")],
        [("X-Passoproxy-Key", "shop:open sesame")],
        [("X-Passoproxy-Key", "open sesame"), ("X-Passoproxy-Key", "open sesame")],
        [("X-Passoproxy-Key", "wrong"), ("Authorization", basic("shop:open sesame"))],
        [("X-Passoproxy-Key", "open sesame"), ("Authorization", basic("a:b"))],
        [("X-Passoproxy-Key", "open sesame"), ("Authorization", basic("crm:näh:doch"))],
        [
            ("X-Passoproxy-Key", "open sesame"),
            ("Authorization", "Bearer a"),
            ("Authorization", basic("shop:open sesame")),
        ],
        [("Authorization", basic("shop:wrong"))],
        [("Authorization", basic("crm:open sesame"))],
        [("Authorization", basic(":open sesame"))],
        [("Authorization", basic("shop"))],
        [("Authorization", "Basic ???")],
        [("Authorization", "Basic /w==")],
        [("Authorization", "Basic \udcff")],
        [("Authorization", "Basic")],
        [("Authorization", "Bearer open sesame")],
        [("Authorization", basic("shop:open sesame")), ("Authorization", basic("shop:open sesame"))],
    ],
)
def test_a_missing_or_wrong_key_is_refused_with_a_challenge(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ClientNotAllowed) as refused:
        KEYED.key_holder(fields_of(pairs))
    assert [name for name, _ in refused.value.fields] == ["WWW-Authenticate"]
    assert "sesame" not in refused.value.detail


def test_without_keys_nobody_is_asked_and_with_an_empty_list_nobody_is_let_in() -> None:
    assert OPEN.key_holder(fields_of()) == KeyHolder()
    with pytest.raises(ClientNotAllowed):
        Admission(AdmissionPolicy(client_keys=())).key_holder(fields_of([("X-Passoproxy-Key", "a")]))


def test_a_key_is_not_shown() -> None:
    assert "sesame" not in repr(client_key("shop", "open sesame"))
    assert client_key("shop", "open sesame").digest.hex() not in repr(KEYED.policy)


# ---- methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_listed_methods(method: str) -> None:
    OPEN.judge(method)


@pytest.mark.parametrize("method", ["get", "TRACE", "CONNECT", "FROB", "M" * 100])
def test_other_methods_are_refused_with_allow(method: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        OPEN.judge(method)
    assert refused.value.fields == (("Allow", "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"),)


def test_any_token_may_be_listed_but_connect_and_trace_are_never_allowed() -> None:
    admission = Admission(AdmissionPolicy(allow_methods=("FROB", "CONNECT", "TRACE")))
    admission.judge("FROB")
    for method in ("CONNECT", "TRACE"):
        with pytest.raises(MethodNotAllowed) as refused:
            admission.judge(method)
        assert refused.value.fields == (("Allow", "FROB"),)
        with pytest.raises(MethodNotAllowed):
            admission.judge("GET", f"_method={method}")


def test_a_method_in_the_query_is_judged_without_regard_to_case() -> None:
    OPEN.judge("GET")
    OPEN.judge("GET", "_method=delete&_method=+Put+")
    with pytest.raises(MethodNotAllowed, match="a _method field in the query"):
        OPEN.judge("GET", "_method=get&_method=trace")
    with pytest.raises(MethodNotAllowed, match="cannot be told: there are more than 1000"):
        OPEN.judge("GET", "&_method=GET" * 1001)


# ---- paths -------------------------------------------------------------------------------------------------------------

DENIED = [
    "/__internal", "/__internal/", "/__internal/x", "/__INTERNAL/x", "/__Internal", "//__internal", "/./__internal", "/.//__internal/x",
    "/a/../__internal/x", "/a/b/../../__internal", "/../__internal", "/%5f%5finternal", "/%5F%5Finternal/x", "/__%69nternal",
    "/%255f_internal", "/%25255f_internal", "/%2525252525255f_internal", "/%25%35%66_internal", "/%2f__internal", "/a%2f..%2f__internal",
    "/a/%2e%2e/__internal", "/a/.%2e/__internal", "/a/%2e./__internal", "/a/%252e%252e/__internal", "/%2e/__internal", "/a/..;/__internal",
    "/a/..;x=1/__internal", "/;/__internal", "/__internal;x=1", "/__internal;a;b/x", "/__internal%3bx", "/__internal/..;/x",
    "/__internal/..%3b/x", "/__internal/%2e%2e;/x", "/a%5c..%5c__internal", "/%5c__internal", "/%5C%5C__internal", "/__internal%5cx",
    "/__internal%00", "/__internal%00.png", "/__int%00ernal", "/__internal%23x", "/__internal%3fx", "/__internal%20", "/__internal%09/x",
    "/%c0%af__internal", "/a/%c0%ae%c0%ae/__internal", "/a%c1%9c..%c1%9c__internal", "/%e0%80%af__internal", "/%25u005f_internal", "/a%3f/../__internal",
    "/a%23/../__internal/x", "/%" + "25" * 200 + "5f_internal", "/__internal/../__internal", "/__internal/%2e%2e/../__internal",
    "/__internal/../a", "/index.php/__internal", "/x/index%2ephp/__internal/x", "/index.php__internal/x",
    "//host/__internal", "//host:1//__internal/x",
]  # fmt: skip


def allowed(admission: Admission, targets: list[str]) -> list[str]:
    """Those that may be asked for."""

    def passes(target: str) -> bool:
        try:
            admission.path(target.partition("?")[0])
        except PathNotAllowed:
            return False
        return True

    return [target for target in targets if passes(target)]


def test_a_denied_path_is_denied_in_every_spelling() -> None:
    assert allowed(OPEN, [*DENIED, *(f"{path}?a=/b" for path in DENIED)]) == []


def test_a_denied_path_is_denied_without_regard_to_case() -> None:
    """Of the pattern's letters and of the path's, in every reading of either."""
    admission = Admission(AdmissionPolicy(deny_paths=("/Admin/**", "/%53ecret/x")))
    long_s = "/%c5%bfecret/x"  # in upper case it is an S
    for target in ("/admin/x", "/ADMIN", "/Admin/x", "/%61dmin/x", "/a/../aDMIN/", "/secret/X", "/SECRET/x", long_s):
        with pytest.raises(PathNotAllowed):
            admission.path(target.partition("?")[0])
    for target in ("/admins", "/secret/y", "/x/admin"):
        admission.path(target.partition("?")[0])


def test_there_are_as_many_spellings_as_promised() -> None:
    assert len(set(DENIED)) >= 35


OTHERS = [
    "/", "/__internals", "/a__internal", "/a/__internal", "/__internal_", "/a%2fb", "/__internal.php",
    "/index.php", "/%5f", "/a;b=__internal", "/ä%c3%a4", "/a/../b", "/a?/__internal", "/?x=/__internal",
]  # fmt: skip


def test_other_paths_are_not() -> None:
    assert allowed(OPEN, OTHERS) == OTHERS


def test_a_path_of_too_many_readings_is_refused_only_where_some_path_is() -> None:
    tangled = asking(target="/" + "%2e%2e/a/" * 100)
    for policy in (AdmissionPolicy(), AdmissionPolicy(deny_paths=(), allow_paths=("/**/a/**",))):
        with pytest.raises(PathNotAllowed, match="so many ways"):
            Admission(policy).path(tangled.path)
    Admission(AdmissionPolicy(deny_paths=())).path(tangled.path)


def test_allowed_paths_match_decoded_once_and_in_every_reading() -> None:
    admission = Admission(AdmissionPolicy(allow_paths=("/api/**",), deny_paths=()))
    for target in ("/api", "/api/x", "/%61pi/x", "/api%2Fx?y", "/api/X", "/api//x", "/api/a/../x", "/api/;a"):
        admission.path(target.partition("?")[0])
    for target in (
        "/",
        "/API",
        "/%2561pi",
        "/apis",
        "/x/../api",
        "*",
        "/api/../x",
        "/api/a/%252e%252e/..",
        "/api/a.php/x",
    ):
        with pytest.raises(PathNotAllowed):
            admission.path(target.partition("?")[0])


def test_a_pattern_is_read_as_the_path_is() -> None:
    admission = Admission(
        AdmissionPolicy(allow_paths=("/a/", "/b//c", "/index.php/**"), deny_paths=("/D%65/", "/x.php/y"))
    )
    for target in ("/a/", "/b//c", "/index.php"):
        admission.path(target.partition("?")[0])
    for target in ("/a", "/b/c", "/de", "/de/", "/index.php/x"):
        with pytest.raises(PathNotAllowed):
            admission.path(target.partition("?")[0])
    with pytest.raises(ValueError, match="too many ways"):
        Admission(AdmissionPolicy(deny_paths=("/a%2fb" * 300,)))


def test_a_verdict_on_a_long_path_is_the_same() -> None:
    OPEN.path("/" + "a" * 1000)
    with pytest.raises(PathNotAllowed):
        OPEN.path("/__internal/" + "a" * 1000)


def test_a_pattern_without_a_slash_is_named() -> None:
    with pytest.raises(ValueError, match="must begin"):
        Admission(AdmissionPolicy(deny_paths=("a",)))


# ---- server.base_path and a path in upstream.url -----------------------------------------------------------------------

BELOW = Admission(AdmissionPolicy(base_path="/ds", deny_paths=("/__internal/**",)))
PREFIXED = Admission(AdmissionPolicy(upstream_path="/v1", deny_paths=()))


@pytest.mark.parametrize(
    ("target", "inward"),
    [
        ("/ds", "/"),
        ("/ds/", "/"),
        ("/ds?a", "/?a"),
        ("/ds/a/b?/ds", "/a/b?/ds"),
        ("/ds//a", "//a"),
        ("/ds/ds/a", "/ds/a"),
    ],
)
def test_base_path_is_taken_off(target: str, inward: str) -> None:
    assert BELOW.inward(target) == inward
    assert OPEN.inward(target) == target


@pytest.mark.parametrize("target", ["/", "*", "/dsx", "/DS/a", "/%64s/a", "//ds/a", "/a/../ds/a", "/d"])
def test_other_paths_are_not_here(target: str) -> None:
    with pytest.raises(NotHere, match="below /ds"):
        BELOW.inward(target)


CLIMBING = ["/..", "/../a", "/a/../..", "/a/../../b", "/%2e%2e/a", "/%252e%252E/a", "/..\\a", "/a/..;x/..;/b", "/./../a", "//../a", "/..%00/a", "/..%3fx/a",
    "/%2E./b", "/a%2f..%2f..%2fb", "/%" + "u0025" * 20]  # fmt: skip
STAYING = ["/a", "/a/../b", "/a/b/../../c", "/..a", "/a..", "/a/%2e%2e", "/a;..", "/%61/../b"]


def test_no_reading_may_climb_above_a_prefix() -> None:
    for admission in (BELOW, PREFIXED):
        assert allowed(admission, CLIMBING + STAYING) == STAYING
    with pytest.raises(PathNotAllowed, match=r"server\.base_path, or the path of upstream\.url"):
        BELOW.path("/..")


def test_rules_judge_the_path_below_the_prefix() -> None:
    with pytest.raises(PathNotAllowed, match="deny_paths"):
        BELOW.path(BELOW.inward("/ds/__internal/a"))
