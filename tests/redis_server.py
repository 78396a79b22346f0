"""A real redis-server for tests, on a free port and in a folder of its own; it keeps nothing unless it is told to."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import redis

from tests.conftest import program
from tests.ports import free_port


class RedisServer:
    """One server; it may be killed, stopped, restarted and put back to an earlier time. `options` are as on its command line."""

    def __init__(self, folder: Path, *options: str, password: str = "", ca: Path | None = None) -> None:
        self.binary = program("redis-server")
        self.folder, self.options, self.password, self.ca = folder, options, password, ca
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{'rediss' if self.ca else 'redis'}://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        port = ["--port", "0", "--tls-port", str(self.port)] if self.ca else ["--port", str(self.port)]
        secret = ["--requirepass", self.password] if self.password else []
        where = ["--bind", "127.0.0.1", "--dir", str(self.folder), "--dbfilename", "dump.rdb", "--save", ""]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *port, *where, *secret, *self.options], stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.exceptions.RedisError:
                assert self.process.poll() is None, (self.folder / "redis.log").read_text()
                time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def client(self) -> redis.Redis:
        secure = {"ssl_ca_certs": str(self.ca)} if self.ca else {}
        return redis.Redis.from_url(self.url, password=self.password or None, **secure)

    def kill(self) -> None:
        """It is gone, with all that it held unless a snapshot was taken."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def snapshot(self) -> bytes:
        """All that it holds now, for `put_back`."""
        with self.client() as client:
            client.save()
        return (self.folder / "dump.rdb").read_bytes()

    def put_back(self, snapshot: bytes) -> None:
        """It starts again with what it held then."""
        self.kill()
        (self.folder / "dump.rdb").write_bytes(snapshot)
        self.start()

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
        self.kill()
