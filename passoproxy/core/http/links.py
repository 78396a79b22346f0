"""Links to the origin become links to the proxy, in JSON and in header fields, so that a client that follows them stays with the proxy.

Only the start of a JSON string counts, keys included. An unescaped quotation mark followed by a scheme can only open a string in
valid JSON, and an opening one never follows a backslash: so one regular expression over the bytes decides, whatever the nesting.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class LinkRewriter:
    """Rewrites references to one origin. `origin` is scheme, authority and path, such as `https://api.example/v1`; what lies at the same authority
    beside that path is left alone. `base_path` begins the proxy's own paths.
    """

    def __init__(self, origin: str, base_path: str = "") -> None:
        parts = urlsplit(origin)
        path = parts.path.rstrip("/")
        self._base_path, self._path, self._authority = base_path, path, f"{parts.scheme}://{parts.netloc}"
        host = (parts.hostname or "").lower()
        name = re.escape(f"[{host}]" if ":" in host else host)
        usual = _DEFAULT_PORTS.get(parts.scheme, 80)
        port = parts.port or usual
        # Both schemes: behind a TLS terminator, frameworks write http:// links to an https:// origin.
        spelled = rf"(?:http://{name}(?::80)?|https://{name}(?::443)?)" if port == usual else rf"https?://{name}:{port}"
        escaped = spelled.replace("//", r"(?:\\/\\/|//)")
        below = f"(?-i:{re.escape(path)})"
        escaped_below = below.replace("/", r"(?:\\/|/)")
        # The lookbehind stands after the literal that it is about: a pattern that begins with one is searched three times as fast.
        self._in_json = re.compile(rf'"(?<!\\"){escaped}{escaped_below}(?=["/?#]|\\/)'.encode(), re.IGNORECASE)
        self._reference = re.compile(rf"(?:{spelled}|//{name}(?::{port})?){below}(?=[/?#]|$)", re.IGNORECASE)
        self._link = re.compile(r"<([^<>]*)>")
        self.longest = len(f'"https:\\/\\/{host}:{port}[]{path}\\/') + path.count("/") + 1

    def is_free_of_links(self, text: bytes) -> bool:
        """Whether nothing in a whole JSON text would be rewritten."""
        return self._in_json.search(text) is None

    def streaming(self, base: str) -> StreamRewriting:
        """Rewrites one JSON text: strings that begin with the origin begin with `base` (scheme and authority) instead."""
        return StreamRewriting(self, _Replacement(base + self._base_path))

    def reference(self, value: str, base: str) -> str:
        """A URI reference (`Location`, `Content-Location`); one that does not name the origin stays as it is, but a path of the origin's is
        made one of the proxy's, or names the origin if the proxy has no such path.
        """
        if (found := self._reference.match(value)) is not None:
            return f"{base}{self._base_path}{value[found.end() :]}"
        if not (self._path or self._base_path) or not value.startswith("/") or value.startswith("//"):
            return value
        below = value.removeprefix(self._path)
        if self._path and (below == value or below[:1] not in ("", "/", "?", "#")):
            return self._authority + value
        if not self._base_path and below[:2] in ("//", "/\\", "/\t"):
            return base + below  # by itself it would name another host
        return self._base_path + below if self._base_path or below.startswith("/") else f"/{below}"

    def link(self, value: str, base: str) -> str:
        """A `Link` field's value (RFC 8288): the targets between angle brackets are rewritten."""
        return self._link.sub(lambda found: f"<{self.reference(found.group(1), base)}>", value)


class StreamRewriting:
    """One JSON text in parts: gives the same bytes however it is split, and holds back no more than one possible match."""

    def __init__(self, rewriter: LinkRewriter, replacement: _Replacement) -> None:
        self._pattern, self._longest, self._replacement = rewriter._in_json, rewriter.longest, replacement
        self._held, self._before = b"", b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on after `data`."""
        whole = self._held + data
        cut = self._undecided_from(whole)
        self._held = whole[cut:]
        return self._settled(whole[:cut], self._held)

    def finish(self) -> bytes:
        """The rest, at the end of the text."""
        held, self._held = self._held, b""
        return self._settled(held, b"")

    def _undecided_from(self, whole: bytes) -> int:
        quote = whole.rfind(b'"', max(0, len(whole) - self._longest))
        return len(whole) if quote < 0 else quote

    def _settled(self, data: bytes, following: bytes) -> bytes:
        if not data:
            return b""
        # The byte before and the one after take part in the match, as lookbehind and lookahead, and are not given twice.
        seen = self._before + data + following[:1]
        start, end = len(self._before), len(seen) - len(following[:1])
        self._before = data[-1:]
        parts: list[bytes] = []
        for found in self._pattern.finditer(seen):
            parts += (seen[start : found.start()], self._replacement(found))
            start = found.end()
        parts.append(seen[start:end])
        return b"".join(parts)


class _Replacement:
    """The base in the escaping of what it replaces."""

    def __init__(self, base: str) -> None:
        self._plain = f'"{base}'.encode()
        self._escaped = self._plain.replace(b"/", b"\\/")

    def __call__(self, found: re.Match[bytes]) -> bytes:
        return self._escaped if b"\\/" in found.group() else self._plain
