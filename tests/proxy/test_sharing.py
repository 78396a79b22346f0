"""One body for many: pace, window, parking, ends."""

import asyncio

import pytest

from passoproxy.core.cache.entry import Entry
from passoproxy.errors import BodyBroken, OriginTimeout
from passoproxy.ports import BytesBody
from passoproxy.proxy.collapse import MOST_PASSED_BY, SharedBody, done_within
from passoproxy.proxy.spool import Spools
from tests.fakes import BROKEN, ChunkedBody, FakeClock, settle

PARTS = [bytes([65 + number]) * 10 for number in range(10)]
WHOLE = b"".join(PARTS)
ENTRY = Entry("k", "1", "p", "GET", "/", 200)


class Scene:
    """A body of ten parts of ten bytes, a window of thirty, a sink that remembers."""

    def __init__(self, *parts, length=100, stored=WHOLE, takes=None):
        self.clock = FakeClock()
        self.source = ChunkedBody(*(parts or PARTS), length=length)
        self.stored = stored
        self.takes = takes
        self.kept = []
        self.shared = SharedBody(self.source, self.clock, Spools(window_bytes=30), self.read, longest_stall=5.0)

    async def read(self, entry):
        assert entry is ENTRY
        return BytesBody(self.stored) if isinstance(self.stored, bytes) else self.stored

    async def sink(self, part):
        self.kept.append(part)
        return self.takes is None or len(self.kept) < self.takes

    def pump(self, storing=True, stored_at_once=True):
        return asyncio.ensure_future(self._pumped(storing, stored_at_once))

    async def _pumped(self, storing, stored_at_once):
        taken = await self.shared.pump(self.sink if storing else None)
        if stored_at_once:
            self.shared.stored.set_result(ENTRY if taken else None)
        return taken


async def rest(reader):
    return b"".join([part async for part in reader])


async def test_all_readers_and_the_sink_get_all_of_it():
    scene = Scene()
    readers = [scene.shared.reader() for _ in range(3)]
    pump = scene.pump()
    assert await asyncio.gather(*map(rest, readers)) == [WHOLE] * 3
    assert await pump is True
    assert b"".join(scene.kept) == WHOLE
    assert scene.source.closed


async def test_without_readers_the_store_still_gets_all_of_it():
    scene = Scene()
    assert await scene.pump() is True
    assert b"".join(scene.kept) == WHOLE
    assert scene.shared.reader() is None  # its start is gone
    assert scene.shared.whole is None


async def test_a_small_body_is_kept_whole():
    scene = Scene(b"ab", b"c", length=3)
    assert await scene.pump() is True
    assert scene.shared.whole == b"abc"
    assert await rest(scene.shared.reader()) == b"abc"
    assert not scene.shared.is_broken


async def test_the_window_bounds_what_is_read_ahead():
    scene = Scene()
    reader = scene.shared.reader()
    pump = scene.pump(storing=False)
    await settle(50)
    assert len(PARTS) - len(scene.source._chunks) == 4
    assert await rest(reader) == WHOLE
    assert await pump is False


async def test_a_lonely_slow_reader_of_a_stored_body_is_waited_for():
    scene = Scene()
    reader = scene.shared.reader()
    pump = scene.pump()
    await scene.clock.advance(1000)
    assert len(scene.kept) == 4
    assert await rest(reader) == WHOLE
    assert await pump is True


@pytest.mark.parametrize("length", [100, None])
async def test_who_holds_others_up_is_parked_where_the_length_is_known(length):
    scene = Scene(length=length)
    slow, quick = scene.shared.reader(), scene.shared.reader()
    pump = scene.pump()
    reading = asyncio.ensure_future(rest(quick))
    assert await anext(slow) == PARTS[0]
    await scene.clock.advance(4.9)
    assert not reading.done()
    await scene.clock.advance(0.2)
    assert reading.done() is (length is not None)
    if length is None:
        assert await rest(slow) == b"".join(PARTS[1:])
        assert await reading == WHOLE
        return
    assert await pump is True
    assert await rest(slow) == b"".join(PARTS[1:])
    await slow.aclose()


@pytest.mark.parametrize(
    ("stored", "entry"),
    [(WHOLE, None), (None, ENTRY)],
)
async def test_a_parked_reader_whose_rest_is_nowhere_gets_a_broken_body(stored, entry):
    scene = Scene(stored=stored)
    slow, quick = scene.shared.reader(), scene.shared.reader()
    scene.pump(stored_at_once=False)
    reading = asyncio.ensure_future(rest(quick))
    await scene.clock.advance(6)
    await reading
    scene.shared.stored.set_result(entry)
    with pytest.raises(BodyBroken):
        await rest(slow)


@pytest.mark.parametrize("parts", [[WHOLE], PARTS, [WHOLE[:5], WHOLE[5:]], [WHOLE[:10], WHOLE[10:]], [WHOLE[:7]]])
async def test_the_rest_from_a_streaming_store_begins_where_the_reader_was(parts):
    scene = Scene(stored=ChunkedBody(*parts))
    slow, quick = scene.shared.reader(), scene.shared.reader()
    scene.pump()
    reading = asyncio.ensure_future(rest(quick))
    await anext(slow)
    await scene.clock.advance(6)
    await reading
    assert await rest(slow) == b"".join(parts)[10:]


async def test_readers_that_are_all_as_slow_are_not_parked():
    scene = Scene()
    readers = [scene.shared.reader(), scene.shared.reader()]
    pump = scene.pump()
    await scene.clock.advance(100)
    assert len(scene.kept) == 4
    assert await asyncio.gather(*map(rest, readers)) == [WHOLE] * 2
    assert await pump is True


async def test_a_reader_that_leaves_makes_room():
    scene = Scene()
    reader = scene.shared.reader()
    pump = scene.pump()
    await settle(50)
    await reader.aclose()
    await reader.aclose()
    assert await pump is True
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_where_nobody_is_left_the_source_is_read_to_its_end_all_the_same():
    scene = Scene()
    reader = scene.shared.reader()
    pump = scene.pump(storing=False)
    await anext(reader)
    await reader.aclose()
    assert await pump is False
    assert scene.source.closed
    assert not scene.source._chunks
    assert scene.shared.reader() is None


async def test_a_source_without_end_is_not_read_for_nobody_for_ever():
    part = bytes(MOST_PASSED_BY // 4)
    scene = Scene(*[part] * 10, length=None)
    assert await scene.pump(storing=False) is False
    assert scene.source.closed
    assert len(scene.source._chunks) == 5
    assert scene.shared.is_broken


async def test_how_many_read_is_told():
    told = []
    shared = SharedBody(ChunkedBody(b"a"), FakeClock(), Spools(), None, told.append)
    first, second = shared.reader(), shared.reader()
    await first.aclose()
    second.leave()
    second.leave()
    assert told[:4] == [1, 2, 1, 0]


async def test_a_sink_that_gives_up_leaves_the_readers_theirs():
    scene = Scene(takes=2)
    reader = scene.shared.reader()
    pump = scene.pump()
    assert await rest(reader) == WHOLE
    assert await pump is False
    assert len(scene.kept) == 2


@pytest.mark.parametrize("fault", [BROKEN, OriginTimeout("silence")])
async def test_a_source_that_breaks_breaks_for_all(fault):
    scene = Scene(b"ab", fault)
    readers = [scene.shared.reader() for _ in range(2)]
    assert await scene.pump() is False
    for reader in readers:
        assert await anext(reader) == b"ab"
        with pytest.raises(type(fault)):
            await anext(reader)
    assert scene.source.closed
    assert scene.shared.is_broken


async def test_a_pump_that_is_cancelled_leaves_no_complete_body():
    scene = Scene()
    reader = scene.shared.reader()
    pump = scene.pump()
    await settle(50)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    with pytest.raises(BodyBroken):
        await rest(reader)
    assert scene.source.closed


async def test_done_within():
    clock, future = FakeClock(), asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(done_within(clock, future, 5.0))
    await clock.advance(5)
    assert await waiting is False
    waiting = asyncio.ensure_future(done_within(clock, future, 5.0))
    await settle()
    future.set_result(None)
    assert await waiting is True


@pytest.mark.parametrize("length", [100, None])
async def test_the_end_is_kept_back_until_the_store_has_it(length):
    scene = Scene(length=length)
    reader = scene.shared.reader()
    scene.pump(stored_at_once=False)
    reading = asyncio.ensure_future(rest(reader))
    await settle(60)
    assert not reading.done()
    scene.shared.stored.set_result(ENTRY)
    assert await reading == WHOLE


@pytest.mark.parametrize("length", [100, None])
async def test_the_end_is_kept_back_for_a_tenth_of_a_second_at_most(length):
    scene = Scene(length=length)
    reader = scene.shared.reader()
    scene.pump(stored_at_once=False)
    reading = asyncio.ensure_future(rest(reader))
    await settle(80)
    await scene.clock.advance(0.099)
    assert not reading.done()
    await scene.clock.advance(0.002)
    assert await reading == WHOLE


async def test_nothing_is_kept_back_of_what_is_not_stored():
    scene = Scene()
    reader = scene.shared.reader()
    scene.pump(storing=False, stored_at_once=False)
    assert await rest(reader) == WHOLE
    await scene.shared.held_until_stored()
