"""`oauth.seed_file`: taken up once where nothing is stored, never presented again."""

from __future__ import annotations

import pytest

from passoproxy.core.events import TokenRefreshed, Warned
from passoproxy.core.oauth.settings import Terms
from passoproxy.errors import CommandFailure
from passoproxy.tokens.commands import Import, Logout
from tests.tokens.life import Life


@pytest.fixture
async def life():
    life = Life()
    life.document_read = life.document()
    life.reads = 0

    def read():
        life.reads += 1
        return life.document_read

    life.seed = read
    yield life
    if life.task is not None and not life.task.done():
        await life.stop()


def codes(life):
    return [each.code for each in life.observer.of(Warned)]


async def test_it_is_taken_up_where_nothing_is_stored(life):
    keeper = await life.start()
    assert keeper.current().token == "access-1"
    assert (keeper.snapshot().chain, keeper.snapshot().generation) == ("healthy", 1)
    assert [each.grant for each in life.observer.of(TokenRefreshed)] == ["seed"]
    await life.clock.advance(1450)
    assert keeper.current().token == "access-2"


async def test_it_is_not_read_while_a_pair_is_stored(life):
    await life.start()
    await life.stop()
    assert life.reads == 1
    life.seed = None
    await life.start()
    await life.keeper.execute(Import(life.document()))
    await life.stop()
    await life.start()
    assert life.reads == 1


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_spent_seed_is_named_and_never_presented_again(life, renewed):
    keeper = await life.start()
    if renewed:
        await life.clock.advance(1450)
    await keeper.execute(Logout())
    await life.stop()
    sent = len(life.rotating.bodies)
    keeper = await life.start()
    assert keeper.current() is None
    assert codes(life) == ["seed_spent"]
    assert "used before" in keeper.snapshot().reason
    assert "passoproxy login" in keeper.snapshot().remedy
    await life.clock.advance(5000)
    assert len(life.rotating.bodies) == sent
    life.document_read = life.document()  # somebody puts a new one there
    await life.stop()
    assert (await life.start()).current() is not None


async def test_a_pair_that_was_imported_and_renewed_is_known_as_a_seed_too(life):
    seed, life.seed = life.seed, None
    keeper = await life.start()
    await keeper.execute(Import(life.document_read))
    await life.clock.advance(1450)
    await keeper.execute(Logout())
    await life.stop()
    life.seed = seed
    assert (await life.start()).current() is None
    assert codes(life) == ["seed_spent"]


async def test_a_crash_between_pair_and_record_forgets_nothing(life):
    life.store.failing = {"save_record"}
    keeper = await life.start()
    assert keeper.current().token == "access-1"
    await life.crash()
    life.store.failing.clear()
    assert life.store.generations[1].source == "seed"
    assert life.store.record.extra == ()
    keeper = await life.start()
    await keeper.execute(Logout())
    await life.stop()
    assert (await life.start()).current() is None
    assert codes(life) == ["seed_spent"]


async def test_after_a_loss_nobody_can_tell_whether_it_was_used(life):
    life.store.damaged = ["/state/pair.3.json: cannot be understood"]
    keeper = await life.start()
    assert keeper.current() is None
    assert codes(life) == ["seed_unused"]
    assert "pair.3.json" in keeper.snapshot().reason


async def test_a_seed_that_is_none_or_cannot_be_read_is_named(life):
    life.document_read = b"[]"
    keeper = await life.start()
    assert codes(life) == ["seed_refused"]
    assert keeper.snapshot().reason.startswith("the pair in oauth.seed_file is no JSON object")
    await life.stop()

    def missing():
        raise CommandFailure("/etc/seed: is not there")

    life.seed = missing
    keeper = await life.start()
    assert keeper.snapshot().reason == "/etc/seed: is not there"


async def test_a_seed_without_a_refresh_token(life):
    life.document_read = life.document(refresh_token=None)
    keeper = await life.start()
    assert keeper.snapshot().chain == "none"
    await keeper.execute(Logout())
    await life.stop()
    assert (await life.start()).current() is None
    assert codes(life) == ["seed_spent"]


async def test_other_grants_have_no_seed(life):
    life.terms = Terms(grant="client_credentials")
    await life.start()
    assert life.reads == 0
