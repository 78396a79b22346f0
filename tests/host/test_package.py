"""What is released: one version, the same bytes from the same source, and a wheel that runs where it is installed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from passoproxy import __version__

ROOT = Path(__file__).parents[2]


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "passoproxy/__init__.py"
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1].rstrip(",") == __version__  # type: ignore[index]


def built(source: Path, into: Path, umask: int) -> dict[str, str]:
    """Wheel and source archive with their digests."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in into.iterdir()}


@pytest.mark.slow
def test_a_release(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*_cache", ".venv", ".git", "__pycache__")
    )
    for path in (tmp_path / "source").rglob("*"):  # another checkout, at another time
        os.utime(path, (1.7e9, 1.7e9))
    first = built(tmp_path / "source", tmp_path / "one", 0o022)
    assert built(tmp_path / "source", tmp_path / "two", 0o077) == first
    wheel = f"passoproxy-{__version__}-py3-none-any.whl"
    assert set(first) == {wheel, f"passoproxy-{__version__}.tar.gz"}

    # as pipx does, but that the libraries are those of this environment
    place = tmp_path / "place"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    command = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, str(tmp_path / "one" / wheel)], check=True, timeout=120)
    libraries = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    )
    Path(libraries.stdout.strip(), "libraries.pth").write_text(sysconfig.get_path("purelib"))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [place / "bin" / "passoproxy", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    assert "hit" in done.stdout
    where = subprocess.run(
        [python, "-c", "import passoproxy; print(passoproxy.__file__)"], capture_output=True, text=True, cwd=tmp_path
    )
    assert str(place) in where.stdout
