"""The token endpoint: its grants over HTTP, and every fault that strikes there."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from passoproxy.sandbox.breaking import drop
from passoproxy.sandbox.faults import FaultSet
from passoproxy.sandbox.journal import Entry, fingerprint
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.clients import Client, identify, read_fields
from passoproxy.sandbox.provider.grants import Grants, Issued
from passoproxy.sandbox.provider.refusals import Refusal, missing, unsupported_grant, wrong_client
from passoproxy.sandbox.provider.throttle import Throttle
from passoproxy.sandbox.recording import entry_of

_GARBAGE = b'\x1f\x8b\x00<br />{"access_token":"eyJ0eXAiOi'
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
