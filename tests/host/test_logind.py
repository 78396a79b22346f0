"""logind on a bus: what is asked of it and what is made of its answers; and a real bus with a logind of ours, where CI has one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from passoproxy.host.logind import MANAGER, NAME, PATH, BeforeSleep, Logind, LogindAway, reach
from tests.conftest import program
from tests.fakes import FakeClock, settle


class FakeBus:
    """As much of dbus-fast's MessageBus as is used."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "AddMatch": ([], []),
            "Get": ([SimpleNamespace(value=5_000_000)], []),
            "Inhibit": ([0], [7]),
            **answers,
        }
        self.asked: list[Any] = []
        self.handler: Any = None
        self.ended = asyncio.Event()
        self.left = False

    async def call(self, message: Any) -> Any:
        self.asked.append(message)
        answer = self.answers[message.member]
        if isinstance(answer, Exception):
            raise answer
        body, descriptors = answer
        return SimpleNamespace(message_type=None, body=body, unix_fds=descriptors)

    def add_message_handler(self, handler: Any) -> None:
        self.handler = handler

    async def wait_for_disconnect(self) -> None:
        await self.ended.wait()
        raise EOFError

    def disconnect(self) -> None:
        self.left = True


async def test_what_is_asked_of_it():
    bus = FakeBus()
    logind = Logind(bus)
    await logind.open()
    assert await logind.delay() == 7
    assert await logind.longest_delay() == 5.0
    match, _, inhibit, _ = bus.asked
    assert "PrepareForSleep" in match.body[0]
    assert inhibit.body == ["sleep", "passoproxy", "renews the account's token pair", "delay"]
    await logind.close()
    assert bus.left


@pytest.mark.parametrize("member", ["AddMatch", "Get"])
async def test_a_bus_without_logind_is_left(member):
    bus = FakeBus(**{member: OSError("gone")})
    with pytest.raises(LogindAway, match=rf"{member} was not answered \(OSError\)"):
        await Logind(bus).open()
    assert bus.left


@pytest.mark.parametrize("answer", [([], []), ([3], [7]), (["x"], [7])])
async def test_no_lock(answer):
    with pytest.raises(LogindAway, match="gave no lock"):
        await Logind(FakeBus(Inhibit=answer)).delay()


@pytest.mark.parametrize("answer", [([], []), ([5], []), ([SimpleNamespace(value=None)], [])])
async def test_no_delay(answer):
    with pytest.raises(LogindAway, match="how long"):
        await Logind(FakeBus(Get=answer)).longest_delay()


def said(interface: str, member: str, body: list[Any]) -> Any:
    return SimpleNamespace(interface=interface, member=member, body=body)


async def test_sleeps_are_told_until_the_bus_is_gone():
    bus = FakeBus()
    logind = Logind(bus)
    await logind.open()
    for message in (
        (MANAGER, "PrepareForSleep", [True]),
        (MANAGER, "SessionNew", ["1"]),
        ("other", "PrepareForSleep", [True]),
    ):
        bus.handler(said(*message))
    bus.handler(said(MANAGER, "PrepareForSleep", []))
    bus.handler(said(MANAGER, "PrepareForSleep", [False]))
    found = []
    async for told in logind.sleeps():
        found.append(told)
        if told is False:
            bus.ended.set()
    assert found == [True, False]


async def test_without_the_library_there_is_no_logind(monkeypatch):
    monkeypatch.setitem(sys.modules, "dbus_fast", None)
    with pytest.raises(LogindAway, match="dbus-fast is not installed"):
        await reach()


# ---- a real bus --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bus_address(tmp_path):
    """A private bus that lets everybody do everything."""
    pytest.importorskip("dbus_fast", reason="dbus-fast is not installed (pip install 'dbus-fast>=5')")
    daemon = program("dbus-daemon")
    config = tmp_path / "bus.conf"
    config.write_text(
        '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"'
        ' "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd"><busconfig><type>system</type>'
        f'<listen>unix:path={tmp_path}/bus</listen><auth>EXTERNAL</auth><policy context="default">'
        '<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/>'
        "</policy></busconfig>"
    )
    process = subprocess.Popen(
        [daemon, f"--config-file={config}", "--nofork", "--print-address"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    yield address
    process.terminate()
    process.wait(10)
    process.stdout.close()


class OurLogind:
    """A logind of the test's own on a bus: gives locks, and sees when they are given up."""

    def __init__(self, bus: Any) -> None:
        self.bus = bus
        self.ends: list[int] = []

    @classmethod
    async def on(cls, address: str) -> OurLogind:
        from dbus_fast.aio import MessageBus

        found = cls(await MessageBus(bus_address=address, negotiate_unix_fd=True).connect())
        found.bus.add_message_handler(found.answer)
        await found.bus.request_name(NAME)
        return found

    def answer(self, message: Any) -> Any:
        from dbus_fast import Message, Variant

        if message.path != PATH or message.member not in ("Inhibit", "Get"):
            return None
        if message.member == "Get":
            assert message.body == [MANAGER, "InhibitDelayMaxUSec"]
            return Message.new_method_return(message, "v", [Variant("t", 3_000_000)])
        mine, theirs = os.pipe()
        self.ends.append(mine)
        asyncio.get_running_loop().call_later(1.0, os.close, theirs)  # it has been passed on by then
        return Message.new_method_return(message, "h", [0], [theirs])

    def tell(self, is_going: bool) -> None:
        from dbus_fast import Message

        self.bus.send(Message.new_signal(PATH, MANAGER, "PrepareForSleep", "b", [is_going]))

    async def given_up(self, number: int) -> None:
        """Waits until a lock is closed on the other side: then reading its pipe ends."""
        assert await asyncio.wait_for(asyncio.to_thread(os.read, self.ends[number], 1), 10) == b""
        os.close(self.ends[number])


@pytest.mark.needs_ci
async def test_a_real_bus(bus_address):
    ours = await OurLogind.on(bus_address)
    prepared = asyncio.Event()

    async def prepare() -> None:
        prepared.set()

    watch = asyncio.create_task(BeforeSleep(lambda: reach(bus_address), prepare, FakeClock()).run())
    for number in range(2):
        while len(ours.ends) <= number:
            await asyncio.sleep(0.01)
        ours.tell(True)
        await asyncio.wait_for(prepared.wait(), 10)
        await ours.given_up(number)
        prepared.clear()
        ours.tell(False)
    while len(ours.ends) < 3:
        await asyncio.sleep(0.01)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await ours.given_up(2)
    ours.bus.disconnect()
    await settle()


@pytest.mark.needs_ci
async def test_a_real_bus_without_logind(bus_address):
    with pytest.raises(LogindAway, match="was refused"):
        await reach(bus_address)
    with pytest.raises(LogindAway, match="cannot be reached"):
        await reach("unix:path=/nowhere/bus")
