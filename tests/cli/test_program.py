"""The command line itself: usage errors, suggestions, the version, and every failure as one line with its exit code."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from passoproxy import __version__, daemon
from passoproxy.cli import app, main, options, output, serve
from passoproxy.errors import BadRequest, CommandFailure, ConfigurationError, Fault, ServiceUnreachable, UsageFailure
from tests.cli.conftest import Run
from tests.whole import Place

ROOT = Path(__file__).parents[2]


def test_the_version_is_one_line(run: Run) -> None:
    said = run("--version")
    assert (said.code, said.out, said.err) == (0, f"passoproxy {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["token"], ["cache"], ["config"]])
def test_on_its_own_it_shows_help(run: Run, arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert "Usage: passoproxy" in said.out + said.err
    assert "passoproxy: " not in said.err


def test_the_programs_help_has_every_command_whatever_follows(run: Run) -> None:
    assert run("--help", "status").out == run("--help").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean 'status'? See 'passoproxy --help'"),
        (["token", "refesh"], "Did you mean 'refresh'? See 'passoproxy token --help'"),
        (["status", "--jsno"], "No such option: --jsno"),
        (["cache", "show"], "Missing argument 'URL'; see 'passoproxy cache show --help'"),
        (["cache", "list", "--limit", "0"], "--limit"),
        (["cache", "list", "--limit", "many"], "--limit"),
        (["demo", "--lifetime", "soon"], "--lifetime: "),
        (["sandbox", "--latency", "soon"], "--latency: "),
        (["sandbox", "--listen", "8620"], "--listen '8620' is no HOST:PORT"),
        (["sandbox", "--listen", "localhost:99999"], "is no HOST:PORT"),
        (["sandbox", "--listen", "[::1:0"], "is no HOST:PORT"),
        (["sandbox", "--listen", "[]:0"], "is no HOST:PORT"),
        (["sandbox", "--fault", "nonsense"], "nonsense"),
        (["demo", "--lifetime", "0", "--once"], "--lifetime: '0' is too short; write 1s or more"),
        (["sandbox", "--lifetime", "500ms"], "--lifetime: '500ms' is too short"),
        (["drill", "--fault"], "Option '--fault' requires an argument; known are refresh_lost, "),
        (["drill", "--fault"], "kill; see 'passoproxy drill --help'"),
        (["status", "--fault", "x"], "No such option: --fault; see 'passoproxy status --help'"),
        (["--fault", "x"], "No such option: --fault"),
        (["sandbox", "--fault"], "revoked; see 'passoproxy sandbox --help'"),
        (["cache", "list", "--limit"], "Option '--limit' requires an argument; see 'passoproxy cache list --help'"),
        (["status", "--config"], "Option '--config' requires an argument; see 'passoproxy status --help'"),
        (["drill", "--config", "/nonexistent", "--fault", "nope"], "--fault 'nope' is no trial; known are "),
        (["--config", "x", "status"], "--config goes after the command, such as 'passoproxy status --config'"),
        (["--json", "status"], "--json goes after the command"),
    ],
)
def test_usage_errors_are_one_line(run: Run, arguments: list[str], told: str) -> None:
    said = run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "code", "lines"),
    [
        (CommandFailure("a; do b"), 1, ["passoproxy: a; do b"]),
        (UsageFailure("a"), 2, ["passoproxy: a"]),
        (ServiceUnreachable("a"), 69, ["passoproxy: a"]),
        (ConfigurationError(Fault("f:1", "a.b", "bad"), Fault("f:2", "c", "bad", "do")), 78, ["passoproxy: f:1: a.b: bad", "passoproxy: f:2: c: bad; do"]),
        (BadRequest(""), 1, ["passoproxy: BadRequest"]),
        (KeyboardInterrupt(), 130, []),
        (SystemExit(5), 5, []),
        (SystemExit("text"), 1, []),
        (RuntimeError("odd"), 1, ["passoproxy: a fault inside passoproxy: RuntimeError: odd; run again with --debug for the details"]),
    ],
)  # fmt: skip
def test_failures(run: Run, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int, lines: list[str]) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(daemon, "run", fail)
    monkeypatch.setattr(serve, "load", lambda _: None)
    said = run("serve")
    assert (said.code, said.err.splitlines()) == (code, lines)
    assert "Traceback" not in said.err
    if isinstance(fault, Exception):
        for arguments in (["--debug", "serve"], ["serve", "--debug"]):
            said = run(*arguments)
            assert said.code == code
            assert "Traceback" in said.err


def test_debug_belongs_to_us_only_before_two_dashes(run: Run) -> None:
    for arguments, wanted in ((["--", "--debug"], False), (["--debug", "--", "x"], True)):
        said = run("cache", "show", "--config", "/nonexistent", *arguments)
        assert said.code == 78
        assert ("Traceback" in said.err) is wanted


def test_native_windows(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    said = run("serve")
    assert said.code == 78
    assert "WSL2, in a container, or on a Linux host" in said.err


@pytest.mark.parametrize(("arguments", "unbuffered"), [("config schema", ""), ("cache purge --help", "1")])
def test_whoever_reads_us_may_leave(arguments: str, unbuffered: str) -> None:
    code = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m passoproxy {arguments} | head -c 1 | wc -c"
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert (done.stdout.strip(), done.stderr) == ("1", "")


@pytest.mark.parametrize(("arguments", "unbuffered"), [("--version", "1"), ("config schema", "")])
def test_an_output_without_room_or_none_at_all(arguments: str, unbuffered: str) -> None:
    def end(redirection: str) -> tuple[int, list[str]]:
        code = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m passoproxy {arguments} {redirection}"
        done = subprocess.run(["sh", "-c", code], stderr=subprocess.PIPE, text=True, timeout=30, cwd=ROOT)
        return done.returncode, done.stderr.splitlines()

    assert end(">&-") == (0, [])
    said = "passoproxy: the output cannot be written (No space left on device); send it to where there is room"
    assert end(">/dev/full") == (1, [said])


def test_an_input_that_is_closed_is_empty(tmp_path: Path) -> None:
    code = f"{sys.executable} -m passoproxy token import --config {Place(tmp_path).write()} <&-"
    done = subprocess.run(["sh", "-c", code], stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, "the import is no JSON object" in done.stderr) == (1, True)


def test_a_working_folder_that_is_gone(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    said = run("status")
    assert (said.code, said.err) == (
        1,
        "passoproxy: the working folder is gone; change to one that is there, and run this again\n",
    )


def test_standard_output_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        gone.write("something")
        assert app._to_the_end(3) == 3
        gone.flush()  # goes nowhere now


def test_python_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "passoproxy", "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, f"passoproxy {__version__}\n")


NEVER = {
    "--version": "typer pydantic dataclasses logging",
    "--help": "aiohttp pydantic rich asyncio yaml diskcache logging",
    "cache purge --help": "aiohttp pydantic rich asyncio yaml diskcache logging",
    "status": "aiohttp rich asyncio diskcache cryptography",
    "config check": "aiohttp rich asyncio diskcache cryptography",
    "serve": "rich redis cryptography prometheus_client authlib passoproxy.host.control_connector "
    "passoproxy.compose.fleet passoproxy.stores.pair.redis passoproxy.telemetry.exposition passoproxy.drill passoproxy.demo passoproxy.sandbox",
}
"""What a command must not import before it has something to do with it."""


@pytest.mark.parametrize("command", NEVER)
def test_a_command_imports_only_what_it_needs(tmp_path: Path, command: str) -> None:
    place = Place(tmp_path)
    (tmp_path / "token").write_text("static")
    (tmp_path / "token").chmod(0o600)
    static = {"grant": "static", "static_token_file": str(tmp_path / "token")}
    config = place.write(oauth=static, log={"level": "info"}) if command == "serve" else place.write()
    code = "import sys; from passoproxy.cli import main; code = main(sys.argv[1:]); print('loaded', *sys.modules); sys.exit(code)"
    given = [*command.split(), *([] if "--" in command else ("--config", str(config)))]
    with subprocess.Popen(
        [sys.executable, "-c", code, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        assert running.stderr is not None
        if command == "serve":
            assert any("ready" in line for line in running.stderr)
            running.terminate()
        out, err = running.communicate(timeout=60)
    assert running.returncode == (3 if command == "status" else 0), err
    loaded = set(out.split("loaded", 1)[1].split())
    assert loaded & set(NEVER[command].split()) == set()


def test_the_proxys_road_needs_no_more_of_aiohttp_than_its_parser() -> None:
    """What a start imports before the first answer; and aiohttp is whole afterwards for the rest."""
    code = (
        "import sys, passoproxy.daemon; print(*sys.modules); "
        "import aiohttp; from aiohttp import http_parser, web; from passoproxy.http_parser import http_parser as ours; "
        "assert http_parser is ours and aiohttp.ClientSession and web.Application"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert "aiohttp.http_parser" in loaded
    assert not loaded & {"aiohttp.client", "aiohttp.web", "passoproxy.server.admin.app", "passoproxy.compose.admin"}


# ---- how things are said ---------------------------------------------------------------------------------------------


def test_unknown_spans_and_sizes_are_a_dash() -> None:
    assert output.seconds(None) == output.seconds(float("nan")) == output.size(None) == "-"
    assert (output.seconds(3600), output.size(1024)) == ("1 h", "1.0 KiB")


def test_moments() -> None:
    now = time.time()
    assert output.moment(None) == "-"
    assert output.moment(now) == time.strftime("%H:%M:%S %Z", time.localtime(now))
    assert output.moment(0).startswith(("1970-01-01", "1969-12-31"))


def test_a_table_takes_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("[bold]x[/bold]", "[/__internal/**]"), ("[::1]:8610", "b")]
    output.table(("one", "two"), rows)
    assert capsys.readouterr().out == "[bold]x[/bold]\t[/__internal/**]\n[::1]:8610\tb\n"


def test_a_narrow_terminal_breaks_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "60")
    output.table(("key", "value"), [("upstream.rewrite_absolute_urls", "x" * 60)], whole=("key",))
    assert "upstream.rewrite_absolute_urls " in out.getvalue()


def test_facts_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.facts(())
    assert capsys.readouterr().out == ""


TOKEN = {"access": "valid", "chain": "healthy", "grant": "authorization_code", "runway_seconds": 60.0}


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({}, "1 min until a person is needed"),
        ({"runway_seconds": 0.0}, "none: a person is needed now"),
        ({"runway_seconds": None}, "not known"),
        ({"runway_seconds": None, "access": "none"}, "-"),
        ({"runway_seconds": None, "grant": "static"}, "no person is ever needed"),
    ],
)
def test_runways(token: dict[str, object], said: str) -> None:
    assert output.runway({**TOKEN, **token}) == said
    assert output.in_short({**TOKEN, **token}) == ("the runway is not known" if said in ("not known", "-") else said)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({"access": "none"}, "none"),
        ({}, "valid, until a time that is not known"),
        ({"access_until": 1.7e9}, "valid until 2023-11-1"),
        ({"access": "expired", "access_until": 1.7e9}, "expired since 2023-11-1"),
    ],
)
def test_access_tokens(token: dict[str, object], said: str) -> None:
    assert output.access({**TOKEN, **token}).startswith(said)


def test_chains() -> None:
    assert output.chain(TOKEN) == "healthy"
    assert output.chain({**TOKEN, "reason": "why", "last_error": "why"}) == "healthy (why)"
    assert output.chain({**TOKEN, "reason": "why", "last_error": "that"}) == "healthy (why); last error: that"


def test_bodies_that_are_named() -> None:
    assert options.bytes_of(None) is None
    assert options.bytes_of("ü") == "ü".encode()


def test_names_that_are_no_text_are_printed_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = Place(tmp_path).write()
    odd = config.rename(tmp_path / os.fsdecode(b"\xff.yaml"))
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["config", "check", "--config", str(odd)]) == 0
    out.seek(0)
    assert out.read().endswith("\\udcff.yaml: fine\n")
