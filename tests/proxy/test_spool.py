"""Bodies between a quick side and a slow one: memory first, then disk, and waiting where neither has room."""

import asyncio

import pytest

from passoproxy.errors import BadRequest, BodyBroken
from passoproxy.ports import BytesBody
from passoproxy.proxy.collapse import SharedBody
from passoproxy.proxy.spool import IN_MEMORY_BYTES, WINDOW_BYTES, BegunBody, Spool, Spools
from passoproxy.stores.spill import DiskSpill
from tests.fakes import ChunkedBody, FakeClock, settle

WINDOW = 64 * 1024
PART = WINDOW // 4


def parts(count):
    return [bytes([65 + number % 26]) * PART for number in range(count)]


async def rest(body):
    return b"".join([part async for part in body])


class CountingSpill(DiskSpill):
    """Counts the bytes that were written to disk."""

    def __init__(self, *folders, **limits):
        super().__init__(folders, **limits)
        self.written = 0

    def open(self):
        file = super().open()
        write = file.write

        async def counted(at, data):
            taken = await write(at, data)
            self.written += len(data) if taken else 0
            return taken

        file.write = counted
        return file


@pytest.fixture
def spill(tmp_path):
    return CountingSpill(tmp_path)


def shared(source, spill):
    return SharedBody(source, FakeClock(), Spools(spill, WINDOW), None)


async def finished(pump):
    async with asyncio.timeout(10):
        return await pump


# ---- answers -------------------------------------------------------------------------------------------------------------


async def test_a_reader_that_does_not_read_holds_up_nobody(spill):
    body = shared(ChunkedBody(*parts(100)), spill)
    slow, quick = body.reader(), body.reader()
    pump = asyncio.ensure_future(body.pump(None))
    assert await finished(rest(quick)) == b"".join(parts(100))
    await finished(pump)
    assert spill.written >= 90 * PART
    assert await finished(rest(slow)) == b"".join(parts(100))
    await slow.aclose()
    await quick.aclose()
    assert spill.used_bytes == 0


async def test_what_a_reader_keeps_up_with_is_not_copied_to_disk(spill):
    body = shared(ChunkedBody(*parts(100)), spill)
    readers = [body.reader() for _ in range(3)]
    pump = asyncio.ensure_future(body.pump(None))
    assert await finished(asyncio.gather(*map(rest, readers))) == [b"".join(parts(100))] * 3
    await finished(pump)
    assert spill.written == 0


async def test_a_reader_that_is_slow_now_and_then_misses_nothing(spill):
    source = ChunkedBody(*parts(60))
    body = shared(source, spill)
    reader, found = body.reader(), []
    pump = asyncio.ensure_future(body.pump(None))
    async with asyncio.timeout(10):
        for chosen in (1, 7, 2, 30, 3):
            while len(source._chunks) > max(0, 60 - len(b"".join(found)) // PART - chosen - 4) and not pump.done():
                await asyncio.sleep(0)
            for _ in range(chosen):
                found.append(await anext(reader, b""))
    found.append(await finished(rest(reader)))
    assert b"".join(found) == b"".join(parts(60))
    await finished(pump)


async def test_parts_come_when_they_come(spill):
    body = Spool(Spools(spill), None)
    reader = body.reader()
    for part in (b"event: 1", b"event: 2"):
        waiting = asyncio.ensure_future(anext(reader))
        await settle()
        assert not waiting.done()
        body.add(part)
        assert await waiting == part


async def test_a_long_body_takes_a_bounded_part_of_the_disk(tmp_path):
    spill = DiskSpill([tmp_path], most_of_one=4 * WINDOW)
    source = ChunkedBody(*parts(400))
    body = shared(source, spill)
    reader, found = body.reader(), []
    pump = asyncio.ensure_future(body.pump(None))
    async with asyncio.timeout(10):
        while len(source._chunks) > 400 - 18:  # as far as memory and disk have room
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert len(source._chunks) >= 400 - 24
        assert spill.used_bytes <= 4 * WINDOW
        async for part in reader:  # slower than the source
            found.append(part)
            await asyncio.sleep(0)
            assert spill.used_bytes <= 4 * WINDOW
    assert b"".join(found) == b"".join(parts(400))
    await finished(pump)


@pytest.mark.parametrize("kind", ["no spill", "no folder", "no room"])
async def test_without_room_on_disk_the_source_waits(tmp_path, kind):
    spill = {
        "no spill": None,
        "no folder": DiskSpill([tmp_path / "missing"]),
        "no room": DiskSpill([tmp_path], most_bytes=1000),
    }[kind]
    source = ChunkedBody(*parts(50))
    body = shared(source, spill)
    reader = body.reader()
    pump = asyncio.ensure_future(body.pump(None))
    await asyncio.sleep(0.05)
    assert len(source._chunks) == 50 - 5
    assert await finished(rest(reader)) == b"".join(parts(50))
    await finished(pump)


async def test_room_that_comes_free_is_used_by_others(tmp_path):
    spill = DiskSpill([tmp_path], most_bytes=40 * PART)
    bodies = [shared(ChunkedBody(*parts(40)), spill) for _ in range(2)]
    first, second = [body.reader() for body in bodies]
    await finished(bodies[0].pump(None))
    pump = asyncio.ensure_future(bodies[1].pump(None))
    async with asyncio.timeout(10):
        while bodies[1]._clock.next_wake is None:
            await asyncio.sleep(0.001)
    await first.aclose()
    await bodies[1]._clock.advance(1.0)
    await finished(pump)
    assert await finished(rest(second)) == b"".join(parts(40))


async def test_memory_is_shared_among_many_readers(spill):
    spools = Spools(spill)
    assert spools.window == WINDOW_BYTES
    spool = Spool(spools, None)
    readers = [spool.reader() for _ in range(512)]
    assert spools.window == IN_MEMORY_BYTES // 512
    for reader in readers:
        reader.leave()
    assert spools.window == WINDOW_BYTES


async def test_tiny_parts_do_not_cost_many_times_their_bytes(spill):
    body = Spool(Spools(spill), None)
    body.reader()
    for number in range(100_000):
        body.add(b"%d" % (number % 10))
    assert len(body._parts) < 10


async def test_a_disk_that_fails_breaks_the_body_and_nothing_else(spill, tmp_path):
    body = shared(ChunkedBody(*parts(20)), spill)
    reader = body.reader()
    await finished(body.pump(None))
    body._file._read = failing
    with pytest.raises(BodyBroken, match="disk"):
        await rest(reader)


def failing(*_):
    raise OSError(5, "Input/output error")


# ---- request bodies ------------------------------------------------------------------------------------------------------


async def test_a_small_body_is_gathered_in_memory(spill):
    spools = Spools(spill, WINDOW)
    async with spools.buffered(ChunkedBody(b"a", b"b")) as body:
        assert isinstance(body, BytesBody)
        assert body.data == b"ab"
    assert spools.readers == 0


@pytest.mark.parametrize("length", [None, 50 * PART])
async def test_a_large_body_is_gathered_on_disk(spill, length):
    source = ChunkedBody(*parts(50), length=length)
    async with asyncio.timeout(10), Spools(spill, WINDOW).buffered(source) as body:
        assert body.length == 50 * PART
        assert not source._chunks
        other = body.again()
        assert await rest(body) == b"".join(parts(50))
        await body.aclose()
        assert (other.length, await rest(other)) == (50 * PART, b"".join(parts(50)))
        other.leave()
    assert spill.used_bytes == 0


async def test_what_is_neither_small_nor_large_stays_in_memory(spill):
    spools = Spools(spill)
    async with spools.buffered(ChunkedBody(*parts(50))) as body:
        assert body.length == 50 * PART
        assert spools.readers == 1  # it counts for as long as it is there
        assert await rest(body) == b"".join(parts(50))
    assert (spools.readers, spill.written) == (0, 0)


async def test_a_reader_of_its_own_outlives_the_gathering(spill):
    async with asyncio.timeout(10):
        async with Spools(spill, WINDOW).buffered(ChunkedBody(*parts(50))) as body:
            own = body.again()
        assert await rest(own) == b"".join(parts(50))
    own.leave()
    assert spill.used_bytes == 0


async def test_where_there_is_no_room_the_rest_comes_as_it_comes():
    source = ChunkedBody(*parts(50), length=50 * PART)
    async with asyncio.timeout(10), Spools(None, WINDOW).buffered(source) as body:
        assert isinstance(body, BegunBody)
        assert len(source._chunks) == 45
        assert body.length == 50 * PART
        assert await rest(body) == b"".join(parts(50))
        await body.aclose()
        assert source.closed


@pytest.mark.parametrize("fault", [BadRequest("broke off"), None])
async def test_a_body_that_breaks_off_leaves_nothing(spill, fault):
    chunks = [*parts(20), fault] if fault else parts(20)
    spools = Spools(spill, WINDOW)
    with pytest.raises(BadRequest if fault else BodyBroken):
        async with asyncio.timeout(10), spools.buffered(ChunkedBody(*chunks, length=21 * PART)):
            pytest.fail("it is not whole")
    assert (spools.readers, spill.used_bytes) == (0, 0)
