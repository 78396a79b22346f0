"""The folder that the tests of this room write into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.writing import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
