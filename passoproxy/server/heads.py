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
        buffer = self._gathered(data)
        if not buffer or buffer == b"\r":
            self._held = bytearray(buffer)
            return None
        found = buffer.find(HEAD_END, max(0, self._scanned - len(HEAD_END) + 1))
        size = found + len(HEAD_END) if found >= 0 else len(buffer)
        if size > self._max_bytes:
            self._held = bytearray(buffer[:8])
            raise HeadersTooLarge(
                f"request line and fields are over server.limits.header_bytes ({self._max_bytes} bytes)"
            )
        if found < 0:
            self._go_on(buffer)
            return None
        self._held = bytearray()
        self._scanned = 0
        return bytes(buffer[:size]), bytes(buffer[size:])

    def _gathered(self, data: bytes) -> bytes | bytearray:
        if not self._held:
            return data[2:] if data.startswith(b"\r\n") else data
        self._held += data
        if not self._scanned and self._held.startswith(b"\r\n"):
            del self._held[:2]
        return self._held

    def _go_on(self, buffer: bytes | bytearray) -> None:
        if buffer is not self._held:
            self._held = bytearray(buffer)
        scan_beginning(self._held, self._scanned)
        self._scanned = len(self._held)
