"""An origin that thinks for 50 ms before each answer: `python -m bench.slow_origin PORT BODYFILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

THINKS = 0.05


async def serve(port: int, body: bytes) -> None:
    """Answers every request, until it is killed."""
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(THINKS)
        writer.write(head.encode() + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
