"""Commands that talk to a running daemon, which is left as it is or made whole again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from passoproxy.cli.client import Remote
from passoproxy.cli.status import _processes
from passoproxy.core.events import OriginFailed, Warned
from passoproxy.core.oauth.token_response import document_of
from passoproxy.errors import CommandFailure
from tests.cli.conftest import Beside, Run
from tests.whole import CONTENT, Running

OTHER = CONTENT.replace("ZA", "TR")
NOTHING_PURGED = "0 entries purged; 'passoproxy cache list' shows what is stored\n"


@pytest.fixture
def at(it: Running) -> list[str]:
    return ["--config", str(it.place.config)]


# ---- status ----------------------------------------------------------------------------------------------------------


def test_status_in_a_pipe(run: Run, at: list[str], it: Running) -> None:
    run("cache", "stats", *at)  # has the daemon look at its store now, and not within 5 s
    said = run("status", *at)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "ready"
    assert "\x1b" not in said.out
    named = {line[:13].strip(): line[15:] for line in lines[2:]}
    assert named["runway"].endswith("until a person is needed")
    assert named["access token"].startswith("valid until ")
    assert named["refresh chain"] == "healthy (the pair renews itself)"
    assert named["cache"].startswith("2 entries, ")
    assert named["origin"] == f"{it.place.origin}, answering; 0 under way, 0 waiting"
    assert named["requests"].startswith("2, 0 % of the cacheable")
    assert named["listening"] == f"proxy {it.proxy}, admin {it.admin}"


def test_status_on_a_terminal(run: Run, at: list[str]) -> None:
    said = run("status", *at, terminal=True)
    assert said.code == 0
    assert said.out.startswith("\x1b[1;32mready\x1b[0m")


def test_status_as_json_never_says_a_token(run: Run, at: list[str], it: Running) -> None:
    said = run("status", *at, "--json")
    assert (said.code, said.json["state"], said.json["token"]["chain"]) == (0, "ready", "healthy")
    bearer = it.wired.keeper.current()
    assert bearer is not None
    assert bearer.token not in said.out


def test_status_with_warnings_and_errors(run: Run, at: list[str], it: Running, shared: Beside) -> None:
    async def happen() -> None:
        it.wired.observer(Warned("network_trusted", "every machine [::1] may ask"))
        for number in range(7):
            it.wired.observer(OriginFailed("GET", f"/a/{number}?key=secret", "origin_timeout", "no answer [/bold]"))

    shared.do(happen())
    for terminal in (False, True):
        said = run("status", *at, terminal=terminal).out
        assert re.search(r"\nwarning of ([\d-]+ )?\d\d:\d\d:\d\d \w+: every machine \[::1\] may ask\n", said)
        errors = said.partition("\nrecent errors\n")[2]
        assert " ".join(errors.split()).endswith("no answer [/bold] /a/6?key=*** (7 times)")


@pytest.mark.parametrize(("state", "code"), [("ready", 0), ("degraded", 1), ("unready", 1), ("what comes later", 1)])
def test_the_exit_code_is_the_state(
    run: Run, at: list[str], it: Running, monkeypatch: pytest.MonkeyPatch, state: str, code: int
) -> None:
    found = it.wired.control.status() | {"state": state, "reason": "because [/of] it", "requests": None}
    of_pair = {"chain": "dead", "reason": "because [/of] it", "last_error": "failed", "runway_seconds": 0}
    found["token"] = {**found["token"], **of_pair}  # type: ignore[dict-item]
    found["troubles"] = [
        {"of": "pair", "reason": "because [/of] it", "remedy": "do this"},
        {"of": "origin", "reason": "away"},
    ]
    found["origin"] = {"url": "https://o.example", "state": "cooling_down", "cool_down_until": 1_700_000_000.0}
    found["cache"] = {"entries": 1, "bytes": 10, "max_bytes": 2048}
    found["warnings"] = [{"code": "origin_away", "detail": "the origin is taken for away: said again", "at": None}]
    monkeypatch.setattr(it.wired.control, "status", lambda: found)
    for terminal in (False, True):
        said = run("status", *at, terminal=terminal)
        assert said.code == code
        plain = re.sub(r"\x1b\[[\d;]*m", "", said.out)
        assert plain.startswith(f"{state}  because [/of] it -> do this\n{' ' * len(state)}  away\n")
        assert "none: a person is needed now" in said.out
        assert "  dead; last error: failed\n" in said.out  # the reason stands above
        assert "1 entry, 10 B of 2.0 KiB" in said.out
        assert "https://o.example, cooling down; " in said.out
        assert "said again" not in said.out
        assert re.search(r"paused by a 429 until 2023-11-1[345] ", said.out)  # in local time


# ---- token -----------------------------------------------------------------------------------------------------------


def test_token_status(run: Run, at: list[str]) -> None:
    said = run("token", "status", *at)
    assert said.code == 0
    assert "refresh chain  healthy (the pair renews itself)" in said.out
    assert "grant          authorization_code" in said.out
    assert run("token", "status", *at, "--json").json["access"] == "valid"


def test_token_refresh(run: Run, at: list[str]) -> None:
    before = run("token", "status", *at, "--json").json["generation"]
    said = run("token", "refresh", *at)
    assert said.code == 0
    assert said.out.startswith("refreshed; ")
    assert run("token", "refresh", *at, "--json").json["generation"] == before + 2


def test_force_reaches_the_daemon(run: Run, at: list[str], it: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    async def refresh(force: bool = False) -> dict[str, object]:
        asked.append(force)
        return {"runway_seconds": None, "grant": "client_credentials"}

    monkeypatch.setattr(it.wired.control, "refresh", refresh)
    assert run("token", "refresh", *at, "--force").out == "refreshed; no person is ever needed\n"
    assert run("token", "refresh", *at).code == 0
    assert asked == [True, False]


def test_token_export_and_import(run: Run, at: list[str], it: Running, shared: Beside, tmp_path: Any) -> None:
    refused = run("token", "export", *at)
    assert (refused.code, refused.out) == (2, "")
    assert "--reveal" in refused.err
    pair = run("token", "export", *at, "--reveal")
    assert pair.code == 0
    assert pair.err.startswith("passoproxy: handed over: ")
    assert "unknown (handed over by 'token export' on " in run("token", "status", *at).out
    kept = run("token", "refresh", *at)
    assert (kept.code, "takes this one back" in kept.err) == (77, True)
    assert run("token", "import", *at, text=pair.out).out.startswith("imported; ")
    assert run("token", "refresh", *at, "--json").json["chain"] == "healthy"
    own = json.dumps(document_of(it.wired.keeper._held.state.newest))
    file = tmp_path / "pair.json"
    file.write_text(own)
    assert run("token", "import", str(file), *at, "--json").json["access"] == "valid"
    typed = run("token", "import", *at, typed=own)
    assert (typed.code, typed.err.splitlines()[0]) == (0, "paste the pair's JSON, then press Ctrl-D:")


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"refresh_token": "x"}'])
def test_an_import_that_is_no_pair(run: Run, at: list[str], text: str) -> None:
    said = run("token", "import", *at, text=text)
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)


def test_an_import_of_a_file_that_is_not_there(run: Run, at: list[str]) -> None:
    said = run("token", "import", "/nonexistent/pair", *at)
    assert said.code == 1
    assert said.err.startswith("passoproxy: /nonexistent/pair: cannot be read (No such file")


# ---- cache -----------------------------------------------------------------------------------------------------------


def test_cache_stats(run: Run, at: list[str]) -> None:
    said = run("cache", "stats", *at)
    assert said.code == 0
    assert "entries    2\n" in said.out
    found = run("cache", "stats", *at, "--json").json
    assert (found["entries"], found["bytes"] > 0) == (2, True)
    assert f"folder     {found['directory']}\n" in said.out
    assert found["store"] is None


def test_cache_stats_name_a_shared_store(run: Run, at: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {"entries": 0, "bytes": 0, "max_bytes": 1, "memory_bytes": 0, "directory": None, "store": "redis://h"}
    monkeypatch.setattr(Remote, "call", lambda *_: shared)
    said = run("cache", "stats", *at)
    assert "store      redis://h\n" in said.out
    assert "folder" not in said.out


def test_cache_list_in_a_pipe(run: Run, at: list[str]) -> None:
    said = run("cache", "list", *at)
    rows = sorted(line.split("\t") for line in said.out.splitlines())
    assert {row[-1] for row in rows} == {CONTENT, OTHER}
    assert {tuple(row[:2]) for row in rows} == {("GET", "200")}
    assert {len(row) for row in rows} == {7}


def test_cache_list_on_a_terminal(run: Run, at: list[str]) -> None:
    said = run("cache", "list", *at, terminal=True)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.out)
    listed = dict(zip(shown.splitlines()[::2], shown.splitlines()[1::2], strict=True))
    assert re.fullmatch(
        r"    GET 200, \d+ s old, fresh for (1 h|59 min \d+ s), [0-9.]+ (B|KiB), route content-health", listed[CONTENT]
    )


def test_cache_list_chooses(run: Run, at: list[str], it: Running) -> None:
    route = run("cache", "list", *at, "--json").json[0]["route"]
    assert len(run("cache", "list", *at, "--json", "--route", route).json) == 2
    assert run("cache", "list", *at, "--json", "--route", "another").json == []
    assert len(run("cache", "list", *at, "--json", "--prefix", f"{it.proxy}/api/v2").json) == 2
    assert run("cache", "list", *at, "--json", "--tag", "none").json == []
    both = run("cache", "list", *at, "--route", route, "--tag", "x")
    assert (both.code, both.err) == (2, "passoproxy: choose one of --route, --tag\n")
    cut = run("cache", "list", *at, "--limit", "1")
    assert (len(cut.out.splitlines()), cut.err) == (1, "passoproxy: at most 1 are listed; see --limit\n")


def test_cache_show(run: Run, at: list[str], it: Running) -> None:
    said = run("cache", "show", f"{it.place.origin}{CONTENT}", *at)
    assert said.code == 0
    assert f"url        {CONTENT}" in said.out
    assert "\nContent-Type: application/json" in said.out
    assert run("cache", "show", CONTENT, *at, "--json", "-X", "get").json["status"] == 200


def test_what_is_not_stored_or_not_ours(run: Run, at: list[str]) -> None:
    missing = run("cache", "show", "/nothing", *at)
    assert (missing.code, missing.err) == (
        1,
        "passoproxy: GET /nothing is not stored; 'passoproxy cache list' shows what is\n",
    )
    assert run("cache", "show", CONTENT.partition("?")[0], *at, "--data", "{}").code == 1
    other = run("cache", "show", "https://example.com/", *at)
    assert (other.code, "neither the proxy's nor the origin's" in other.err) == (2, True)
    assert run("cache", "show", "/a", *at, "--data", "\udcff").err == (
        "passoproxy: --data: only a body in UTF-8 can be named\n"
    )


def test_cache_purge(run: Run, at: list[str], it: Running, shared: Beside) -> None:
    assert run("cache", "purge", *at, "--url", OTHER).out == "1 entry purged\n"
    assert run("cache", "purge", *at, "--url", OTHER).out == NOTHING_PURGED
    assert run("cache", "purge", *at, "--url", OTHER.partition("?")[0], "--data", "{}").out == NOTHING_PURGED
    assert shared.fetched(it.proxy + OTHER)[0] == 200
    assert run("cache", "purge", *at, "--all", "--json").json["purged"] == 2
    for target in (CONTENT, OTHER):
        assert shared.fetched(it.proxy + target)[0] == 200


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "choose exactly one of"),
        (["--all", "--url", "/a"], "choose exactly one of"),
        (["--all", "--data", "x"], "--data goes with --url"),
        (["--url", ""], "--url is empty"),
    ],
)
def test_a_purge_that_is_not_clear(run: Run, at: list[str], options: list[str], told: str) -> None:
    said = run("cache", "purge", *at, *options)
    assert (said.code, told in said.err) == (2, True)


def test_tail_of_a_route_that_is_not_there(run: Run, at: list[str]) -> None:
    said = run("tail", *at, "--route", "content-vsia")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("passoproxy: --route: this daemon has no route 'content-vsia'; it has ")
    assert ", content-visa, " in said.err


# ---- without the daemon's secrets ------------------------------------------------------------------------------------


def test_commands_need_none_of_the_daemons_secrets(run: Run, it: Running) -> None:
    """The configuration names a secret's file that this user cannot read."""
    text = it.place.config.read_text()
    mine = it.place.folder / "mine.yaml"
    mine.write_text(text.replace("client_secret: demo", "client_secret_file: /nonexistent/secret"))
    for command in (["status"], ["token", "status"], ["cache", "stats"], ["cache", "list"], ["token", "refresh"]):
        said = run(*command, "--config", str(mine))
        # the daemon of the other tests may be degraded by what they do to it
        assert said.code == 0 or (command == ["status"] and said.out.startswith("degraded")), said
    assert run("config", "check", "--config", str(mine)).code == 78


# ---- what a daemon may answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops", "answered 200 with something that is no JSON"),
        (b"SSH-2.0\r\n\r\n", "ended the conversation"),
        (b"", "ended the conversation"),
        (None, "did not answer within 0.2 s"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", "the daemon answered 500"),
        (b'HTTP/1.1 422 No\r\nContent-Length: 21\r\n\r\n{"faults":["a","b"] }', "a\nb"),
    ],
)
def test_something_else_on_the_socket(tmp_path: Any, answer: bytes | None, told: str) -> None:
    import threading

    from passoproxy.host import control_socket

    with control_socket.listen(tmp_path) as listener:
        listener.setblocking(True)

        def serve() -> None:
            served, _ = listener.accept()
            with served:
                served.recv(4096)
                if answer is None:
                    served.recv(1)
                else:
                    served.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(CommandFailure) as caught:
            Remote(tmp_path, deadline=0.2 if answer is None else 5.0).ask("GET", "/api/status")
        thread.join()
    assert told in str(caught.value)


def test_other_refusals_than_not_stored_are_told(run: Run, at: list[str]) -> None:
    assert "never stored" in run("cache", "show", "/auth/me", "-X", "POST", "--data", "{", *at).err


def test_status_of_several_processes() -> None:
    assert _processes({"token": {"role": "owner"}, "workers": []}) == []
    found = _processes({"token": {"role": "following"}, "workers": [11, 12]})
    assert found == [("pair", "held by another process, which this one follows"), ("workers", "2")]
    alone = _processes({"token": {"role": "following", "alone": True}})
    assert alone == [("pair", "held by another process, which has not been heard for a while")]
    away = _processes({"token": {"role": "following"}, "warnings": [{"code": "store_away"}]})
    assert away == [("pair", "not known who holds it while the shared store is away")]
