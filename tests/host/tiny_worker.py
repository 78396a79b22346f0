"""A worker for the supervisor's tests: does what its channel says, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

from passoproxy.host.workers import Channel


def main(descriptor: int) -> int:
    return asyncio.run(live(descriptor))


async def live(descriptor: int) -> int:
    channel = await Channel.over(socket.socket(fileno=descriptor))
    begin = await channel.hear()
    assert begin is not None
    if begin.get("fails"):
        channel.tell("failed", detail="there is no bread")
        channel.close()
        await channel.closed()
        return 3
    channel.tell("ready", begin=begin, open=[os.fstat(each).st_ino for each in begin["passed"]])
    while (document := await channel.hear()) is not None:
        match document["kind"]:
            case "drain" if begin.get("stubborn"):
                pass
            case "drain":
                break
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "mute":
                channel.close()
                await asyncio.sleep(60)
            case "echo":
                channel.tell("echo", word=document["word"])
    return 0
