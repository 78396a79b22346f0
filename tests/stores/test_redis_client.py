"""The way to the store: passwords, TLS, errors as ours, and the library that may be missing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import trustme

from passoproxy.errors import ConfigurationError, Fault, PairStoreFailure
from passoproxy.stores.redis_client import Keys, RedisLink, let_go
from tests.redis_server import RedisServer, free_port

ASK = "return {'asked'}"


@pytest.fixture
def guarded(tmp_path: Path):
    server = RedisServer(tmp_path, password="geheim")
    yield server
    server.stop()


def test_names_are_of_one_fleet_and_one_node():
    keys = Keys.of("0123456789abcdef0123456789abcdef")
    assert (keys.lease, keys.pair) == (
        "passoproxy:{0123456789abcdef01234567}:lease",
        "passoproxy:{0123456789abcdef01234567}:pair",
    )


def test_a_password_is_asked_for_at_every_connection(guarded):
    given = ["wrong"]
    link = RedisLink(guarded.url, lambda: given[0])
    with pytest.raises(PairStoreFailure, match="cannot be used") as refused:
        link.lua(ASK, ())
    assert "wrong" not in str(refused.value)
    given[0] = "geheim"
    assert link.lua(ASK, ()) == [b"asked"]
    link.close()
    with pytest.raises(PairStoreFailure, match=r"NOAUTH|Authentication"):
        RedisLink(guarded.url).lua(ASK, ())


async def test_a_user_of_the_url_and_the_loops_own_client(guarded):
    with guarded.client() as client:
        client.acl_setuser("fleet", enabled=True, passwords=["+word"], commands=["+@all"], keys=["*"], channels=["*"])
    link = RedisLink(guarded.url.replace("://", "://fleet@"), lambda: "word")
    assert (link.lua(ASK, ()), link.shown) == ([b"asked"], guarded.url)
    link.close()
    client = link.asynchronous()
    assert await client.ping()
    assert await client.acl_whoami() == "fleet"
    await client.aclose()


def test_a_user_without_a_password_is_refused_by_the_server(guarded):
    with pytest.raises(PairStoreFailure):
        RedisLink(guarded.url.replace("://", "://fleet@")).lua(ASK, ())


@pytest.fixture
def secure(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = authority.issue_cert("127.0.0.1")
    given.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    given.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    options = ("--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem"),
               "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "no")  # fmt: skip
    server = RedisServer(tmp_path, *options, ca=tmp_path / "ca.pem")
    yield server
    server.stop()


async def test_tls_is_checked_against_the_file(secure, tmp_path):
    link = RedisLink(secure.url, ca_file=secure.ca)
    assert link.lua(ASK, ()) == [b"asked"]
    link.close()
    client = link.asynchronous()
    assert await client.ping()
    await client.aclose()
    with pytest.raises(PairStoreFailure):
        RedisLink(secure.url).lua(ASK, ())
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(PairStoreFailure):
        RedisLink(secure.url, ca_file=tmp_path / "other.pem").lua(ASK, ())


def test_one_that_is_not_there(tmp_path):
    link = RedisLink(f"redis://127.0.0.1:{free_port()}/0")
    for ask in (lambda: link.lua(ASK, ()), lambda: link.fields("x"), lambda: link.listeners("x")):
        with pytest.raises(PairStoreFailure, match="check that it runs"):
            ask()


def test_a_url_that_the_library_does_not_take():
    with pytest.raises(ConfigurationError, match=r"store\.url"):
        RedisLink("redis://127.0.0.1:6379/0?socket_timeout=soon")


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"-m pip install 'redis>=8'") as refused:
        RedisLink("redis://127.0.0.1:6379/0")
    assert refused.value.exit_code == 78


def test_a_password_that_cannot_be_read_is_a_store_that_is_away(guarded):
    def unreadable() -> str:
        raise ConfigurationError(Fault("", "store.password_file", "is gone"))

    with pytest.raises(PairStoreFailure, match=r"store\.password_file"):
        RedisLink(guarded.url, unreadable).lua(ASK, ())


@pytest.mark.parametrize("fault", [None, OSError("gone")])
async def test_a_client_is_closed_to_its_end_although_whoever_closes_it_is_cancelled(fault):
    may_end, ended = asyncio.Event(), []

    class Client:
        async def aclose(self) -> None:
            await may_end.wait()
            ended.append(True)
            if fault is not None:
                raise fault

    closing = asyncio.create_task(let_go(Client()))
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.sleep(0.01)
    assert not closing.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert ended == [True]


async def test_a_client_that_nobody_disturbs_is_closed(guarded):
    client = RedisLink(guarded.url, lambda: "geheim").asynchronous()
    await client.ping()
    await let_go(client)
    assert [each for each in client.connection_pool._available_connections if each.is_connected] == []
