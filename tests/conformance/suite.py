"""The public HTTP cache test suite against the real daemon: the suite's own server behind it, the suite's own client before it.

The suite is not part of this project. PASSOPROXY_CACHE_TESTS names a folder with a copy of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import MAY_BE_MISSING, program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXPECTATIONS = HERE / "expectations.txt"
FOLDER = MAY_BE_MISSING
UNDICI = "undici@7"
GOOD = ("pass", "yes")
ROUTE = {"name": "all", "match": "/**", "cookies": "pass", "stale_if_error": "60s"}
KINDS = ("required", "optimal", "check")
MODES = ("shared", "private", "shared-bare", "private-bare")
"""`cache.shared` true or false, with one route for everything, or bare: mode `http` and no route at all."""


@dataclass(frozen=True)
class Verdict:
    """What the suite says of one test. `said` is its reason in its own words, '' where it is content."""

    kind: str
    verdict: str
    said: str = ""

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD


Verdicts = dict[str, Verdict]


def expectations() -> dict[str, Verdicts]:
    """What is expected of each mode: test ids and verdicts, from the file that is kept beside this one."""
    expected: dict[str, Verdicts] = {mode: {} for mode in MODES}
    for line in EXPECTATIONS.read_text().splitlines():
        if line and not line.startswith("#"):
            kind, name, *verdicts = line.split()
            for mode, verdict in zip(MODES, verdicts, strict=True):
                expected[mode][name] = Verdict(kind, verdict)
    return expected


def written(found: dict[str, Verdicts]) -> str:
    """The file of expectations that fits `found`."""
    head = f"# kind, test, verdicts: {', '.join(MODES)}. Written by python -m tests.conformance.suite\n"
    lines = [
        f"{each.kind} {name} {' '.join(found[mode][name].verdict for mode in MODES)}\n"
        for name, each in sorted(found["shared"].items(), key=lambda pair: (KINDS.index(pair[1].kind), pair[0]))
    ]
    return head + "".join(lines)


def figures(verdicts: Verdicts) -> str:
    """The three figures in one line."""
    counts = []
    for kind in KINDS:
        of_kind = [each for each in verdicts.values() if each.kind == kind]
        counts.append(f"{kind} {sum(each.is_good for each in of_kind)} of {len(of_kind)}")
    return ", ".join(counts)


def differing(found: Verdicts, expected: Verdicts) -> list[str]:
    """The tests whose verdict is another than expected, better ones too, so that the file stays true."""
    return sorted(
        name
        for name in {*found, *expected}
        if name not in found or name not in expected or found[name].verdict != expected[name].verdict
    )


def own_copy(folder: Path) -> Path:
    """A copy of the suite in `folder`, with undici (the one dependency that its client needs) installed beside it."""
    named = os.environ.get(FOLDER, "")
    if not named:
        pytest.skip(f"{FOLDER} names no copy of the public cache tests")
    copy = folder / "suite"
    shutil.copytree(named, copy, ignore=shutil.ignore_patterns("node_modules", ".git"))
    command = [program("npm"), "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), UNDICI]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert installed.returncode == 0, f"{UNDICI} cannot be installed:\n{installed.stderr[-2000:]}"
    return copy


class Suite:
    """The suite's server, a daemon before it, and the suite's client to ask it. Each mode has its own folder and ports."""

    def __init__(self, copy: Path, folder: Path, mode: str) -> None:
        from tests.journeys.conftest import free_port

        self.copy, self.folder = copy, folder
        self.shared, self.bare = mode.startswith("shared"), mode.endswith("bare")
        self.origin_port, self.port = free_port(), free_port()
        folder.mkdir(mode=0o700)

    def run(self, expected: Verdicts, again: int = 2) -> Verdicts:
        """All verdicts. What differs from `expected` is asked again: the suite has races of its own on a busy machine."""
        found = self._asked(())
        for _ in range(again):
            names = [
                name
                for name in differing(found, expected)
                if name in found and (name in expected or not found[name].is_good)
            ]
            if not names:
                break
            found = self._asked(names)
        return found

    def _asked(self, names: Iterable[str]) -> Verdicts:
        raw = self.folder / "raw.json"
        known = [str(raw), *names] if raw.exists() else []
        command = [program("node"), "--no-warnings", str(HERE / "run.mjs"), str(self.copy), self.base, *known]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        told = json.loads(done.stdout[done.stdout.index('{"raw"') :])
        raw.write_text(json.dumps(told["raw"]))
        return {name: Verdict(**each) for name, each in told["verdicts"].items()}

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def standing(self) -> Iterator[Suite]:
        """Runs server and daemon."""
        from tests.journeys.conftest import ask, environment, until

        with self._process(
            [program("node"), str(self.copy / "test-engine/server/server.mjs")],
            {
                **os.environ,
                "npm_config_protocol": "http",
                "npm_config_port": str(self.origin_port),
                "npm_config_pidfile": str(self.folder / "server.pid"),
            },
        ):
            assert until(lambda: ask(self.origin_port, "/state/none").status), "the suite's server did not start"
            command = [sys.executable, "-m", "passoproxy", "serve", "--config", str(self._configured())]
            with self._process(command, environment(self.folder)):
                assert until(lambda: ask(self.port, "/state/none").status), (self.folder / "log").read_text()[-3000:]
                yield self

    @contextmanager
    def _process(self, command: list[str], environment: dict[str, str]) -> Iterator[None]:
        with (
            (self.folder / "log").open("ab") as log,
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment) as process,
        ):
            try:
                yield
            finally:
                process.terminate()
                process.wait(40)

    def _configured(self) -> Path:
        token = self.folder / "token"
        token.write_text("a-static-token\n")
        token.chmod(0o600)
        path = self.folder / "config.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "provider": "custom",
                    "upstream": {
                        "url": f"http://127.0.0.1:{self.origin_port}",
                        "max_concurrency": 64,
                        "max_connections": 128,
                        "allow_methods": [*["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "M-SEARCH"]],
                    },
                    "oauth": {"grant": "static", "static_token_file": str(token)},
                    "server": {"listen": f"127.0.0.1:{self.port}"},
                    "admin": {"listen": "off"},
                    "state": {"directory": str(self.folder / "state")},
                    "cache": {"directory": str(self.folder / "cache"), "mode": "http", "shared": self.shared},
                    "routes": [] if self.bare else [ROUTE],
                }
            )
        )
        return path


def both(folder: Path) -> dict[str, Verdicts]:
    """The verdicts of both modes."""
    copy, expected = own_copy(folder), expectations()
    found: dict[str, Verdicts] = {}
    for mode in MODES:
        with Suite(copy, folder / mode, mode).standing() as suite:
            found[mode] = suite.run(expected[mode])
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        new = both(Path(temporary))
    for mode in MODES:
        print(f"{mode}: {figures(new[mode])}")
        for name in differing(new[mode], expectations()[mode]):
            print(f"  {name}: {new[mode].get(name)}")
    if "--write" in sys.argv:
        EXPECTATIONS.write_text(written(new))
