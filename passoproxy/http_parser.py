"""aiohttp's HTTP parser without the rest of aiohttp, whose client and cookies take longer to import than all of the package's own modules.

Importing a part of aiohttp runs `aiohttp/__init__`, which imports nearly everything. Here the parts are imported while a package that has not run
stands in its place; `import aiohttp` then runs it as usual, and finds these parts there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import http_exceptions as http_exceptions
    from aiohttp import http_parser as http_parser
    from aiohttp.base_protocol import BaseProtocol as BaseProtocol
else:
    _is_there = "aiohttp" in sys.modules
    if not _is_there:
        sys.modules["aiohttp"] = module_from_spec(find_spec("aiohttp"))
    try:
        http_parser = import_module("aiohttp.http_parser")
        http_exceptions = import_module("aiohttp.http_exceptions")
        BaseProtocol = import_module("aiohttp.base_protocol").BaseProtocol
    finally:
        if not _is_there:
            del sys.modules["aiohttp"]
