"""The bytes of a head as they gather, however they are cut: looked at once each, bounded, and refused as soon as they are hopeless."""

from __future__ import annotations

from passoproxy.core.http.scanning import HEAD_END, scan_beginning
from passoproxy.errors import HeadersTooLarge


class HeadGatherer:
    """Takes reads until a head is whole."""

    __slots__ = ("_held", "_max_bytes", "_scanned")

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds request line and fields together, the empty line included."""
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._scanned = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a head is held."""
        return bool(self._held)

    @property
    def asks_for_head_only(self) -> bool:
        """Whether what is held begins as a HEAD request does."""
        return self._held.startswith(b"HEAD ")

    def take(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head and what follows it; None until it is whole. One empty line before it is passed over (RFC 9112 §2.2).

        Raises HeadersTooLarge, and BadRequest for what no further byte can mend; what is held is then the offence.
        """
        buffer: bytes | bytearray = data
        if self._held:
            self._held += data
            buffer = self._held
        if not self._scanned and buffer.startswith(b"\r"):
            if len(buffer) == 1:
                return self._hold(buffer)
            if buffer.startswith(b"\r\n"):
                buffer = buffer[2:]
                if not buffer:
                    self._held = bytearray()
                    return None
        end = buffer.find(HEAD_END, max(0, self._scanned - 3)) + len(HEAD_END)
        if max(end, 0 if end >= len(HEAD_END) else len(buffer)) > self._max_bytes:
            self._held = bytearray(buffer[:8])
            raise HeadersTooLarge(f"request line and fields are over server.limits.header_bytes ({self._max_bytes} bytes)")
        if end < len(HEAD_END):
            self._hold(buffer)
            scan_beginning(buffer, self._scanned)
            self._scanned = len(buffer)
            return None
        self._held = bytearray()
        self._scanned = 0
        return bytes(buffer[:end]), bytes(buffer[end:])

    def _hold(self, buffer: bytes | bytearray) -> None:
        if buffer is not self._held:
            self._held = bytearray(buffer)
