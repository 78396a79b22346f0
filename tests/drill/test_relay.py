"""The way to the provider that can be closed."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.drill.environment import Relay


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


async def asked(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_passes_both_ways_is_closed_and_opens_on_the_same_port() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(server.sockets[0].getsockname()[1])
    await relay.open()
    port = relay.port
    assert await asked(port) == b"HELLO"
    await relay.close()
    await relay.close()
    with pytest.raises(ConnectionRefusedError):
        await asked(port)
    await relay.open()
    assert relay.port == port
    assert await asked(port) == b"HELLO"
    await relay.close()
    server.close()


async def test_where_nobody_is_behind_it_the_connection_ends_without_a_byte() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()
    await relay.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    assert await reader.read() == b""
    writer.close()
    await relay.close()


async def test_its_end_ends_what_is_under_way() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    relay = Relay(server.sockets[0].getsockname()[1])
    await relay.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(b"half")
    assert await reader.read(4) == b"HALF"
    await relay.end()
    assert await reader.read() == b""
    writer.close()
    server.close()
