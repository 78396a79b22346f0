"""A sealed folder: what is in it is told apart when it does not belong, kept aside, and never written over."""

from __future__ import annotations

import base64
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import Candidate, begun
from passoproxy.errors import ConfigurationError, PairDamaged, PairStoreFailure
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair import encryption as module
from passoproxy.stores.pair.directory import ROOM, DirectoryPairStore
from passoproxy.stores.pair.encryption import FolderCover, key_of

PAIR = Pair("planted-access", "planted-def", 1.5, 3601.5, 3601.5, 3600.0, "*", "sub", 1, "login", "salt", "issuer")
RECORD = ChainRecord("healthy", "", ("planted-digest",), begun(None, "planted-def", 1, 2.5), 2.5)
ANSWER = RawAnswer(b'{"access_token": "planted-answer"}', "application/json", 7.5, previous_generation=1)


def key(number: int):
    return key_of(base64.b64encode(bytes([number]) * 32).decode())


def sealed(number: int = 1, previous: int | None = None) -> FolderCover:
    return FolderCover(key(number), None if previous is None else key(previous))


def opened(folder: Path, cover=None) -> DirectoryPairStore:
    store = DirectoryPairStore(folder, wall=lambda: 1000.0, cover=cover)
    store.acquire()
    return store


def filled(folder: Path, cover=None, generation: int = 1) -> None:
    """What a daemon leaves behind: two generations, a record, and an answer under way."""
    store = opened(folder, cover)
    for number in range(1, generation + 1):
        store.commit(replace(PAIR, generation=number))
        store.save_record(RECORD)
    store.keep_answer(replace(ANSWER, previous_generation=generation))
    store.release()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


def flipped(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def test_what_is_written_is_read_by_the_next_owner(folder):
    filled(folder, sealed(), 2)
    store = opened(folder, sealed())
    assert store.load() == replace(PAIR, generation=2)
    assert store.load_record() == RECORD
    assert store.pending_answer() == replace(ANSWER, previous_generation=2)
    store.release()


def test_nothing_in_the_folder_is_readable_and_everything_is_closed_to_others(folder):
    filled(folder, sealed(), 3)
    files = contents(folder)
    assert sorted(files) == ["answer.json", "pair.2.json", "pair.3.json", "record.json", "seal"]
    for name, data in files.items():
        assert b"planted" not in data, name
        assert data.startswith(b"passoproxy-sealed 1 "), name
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_reserve_has_room_for_the_largest_answer_with_its_seal(folder):
    store = opened(folder, sealed())
    store.reserve()
    inode, size = (folder / "reserve").stat().st_ino, (folder / "reserve").stat().st_size
    store.keep_answer(RawAnswer(b"\xff" * (64 * 1024 + 1), "x" * 200, 7.5, "authorization_code", 10**17))
    assert (folder / "answer.json").stat().st_ino == inode
    assert (folder / "answer.json").stat().st_size < size == ROOM
    store.release()


@pytest.mark.parametrize("name", ["pair.2.json", "record.json", "answer.json"])
def test_every_byte_counts(tmp_path, name):
    """No flipped byte is read as good, none makes the folder look like one of another key, and the flipped file is still there after."""
    whole = tmp_path / "whole"
    filled(whole, sealed(), 2)
    original = (whole / name).read_bytes()
    for at in {*range(0, len(original), 5), len(original) - 1}:  # each one is tried on a sealed content
        torn = original[:at] + bytes([original[at] ^ 0x01]) + original[at + 1 :]
        (whole / name).write_bytes(torn)
        store = opened(whole, sealed())
        read = {"p": store.load, "r": store.load_record, "a": store.pending_answer}[name[0]]
        with pytest.raises(PairDamaged, match=f"{name}: "):
            read()
        store.release()
        (aside,) = whole.glob(f"{name}.*-1000")
        assert aside.read_bytes() == torn
        aside.rename(whole / name)


def test_imports_that_wait_for_their_proof_outlive_their_record_under_the_seal(folder):
    waiting = Candidate(replace(PAIR, access_token="planted-import"), replace(RECORD.intent, presented=3))
    other = ChainRecord("healthy", client="another", candidate=waiting)
    for spared in (replace(RECORD, candidate=waiting), replace(RECORD, others=(other,))):
        store = opened(folder, sealed())
        store.save_record(replace(spared, reason="an earlier one"))
        spare = (folder / "imports.json").stat().st_ino
        store.save_record(spared)
        assert (folder / "imports.json").stat().st_ino == spare  # nothing new in it
        store.release()
        assert b"planted" not in (folder / "imports.json").read_bytes()
        flipped(folder / "record.json")
        store = opened(folder, sealed())
        with pytest.raises(PairDamaged, match=r"record\.json"):
            store.load_record()
        found = store.imports()
        (candidate,) = filter(None, (found.candidate, *(each.candidate for each in found.others)))
        assert candidate == replace(waiting, intent=replace(waiting.intent, presented=1, lost=True))
        store.save_record(RECORD)
        assert not (folder / "imports.json").exists()
        store.release()


def test_imports_that_are_damaged_too_are_none(folder):
    store = opened(folder, sealed())
    store.save_record(replace(RECORD, candidate=Candidate(PAIR, RECORD.intent)))
    flipped(folder / "imports.json")
    with pytest.raises(PairDamaged, match=r"imports\.json: cannot be understood .* kept as imports\.json\.damaged-"):
        store.imports()
    assert list(folder.glob("imports.json.damaged-*"))
    assert store.imports() == ChainRecord()
    store.release()


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_without_the_key_nothing_is_touched(folder):
    filled(folder, sealed())
    before = contents(folder)
    with pytest.raises(
        ConfigurationError,
        match=f"state.key_file: is not set, and .*seal is sealed with the key {key(1).name}; name the key",
    ) as told:
        opened(folder)
    assert told.value.exit_code == 78
    assert contents(folder) == before
    opened(folder, sealed()).release()  # the lock was given up


def test_a_seal_with_a_torn_header_is_a_seal_still(folder):
    filled(folder, sealed())
    flipped(folder / "seal", 25)
    with pytest.raises(ConfigurationError, match=r"state.key_file: is not set, and \S+seal is sealed; name the key"):
        opened(folder)


@pytest.mark.parametrize("gone", [(), ("seal",), ("seal", "record.json", "answer.json")])
@pytest.mark.parametrize("cover", [FolderCover, lambda: sealed(2), lambda: sealed(2, 3)])
def test_with_another_key_nothing_is_touched(folder, gone, cover):
    filled(folder, sealed())
    for name in gone:
        (folder / name).unlink()
    before = contents(folder)
    with pytest.raises(
        ConfigurationError, match=f"state.key_file: is not .*{key(1).name}.*nothing was changed"
    ) as told:
        opened(folder, cover())
    assert told.value.exit_code == 78
    assert contents(folder) == before
    store = opened(folder, sealed())
    assert store.load() == PAIR
    store.release()


def test_a_new_key_writes_everything_anew(folder):
    filled(folder, sealed(1), 2)
    cover = sealed(2, previous=1)
    assert cover.previous_key == ""
    store = opened(folder, cover)
    assert cover.previous_key.startswith(f"is not needed for {folder} any more")
    assert (store.load(), store.load_record()) == (replace(PAIR, generation=2), RECORD)
    store.release()
    for name, data in contents(folder).items():
        assert key(2).name.encode() in data[:40], name
    store = opened(folder, sealed(2))
    assert (store.load(), store.pending_answer()) == (
        replace(PAIR, generation=2),
        replace(ANSWER, previous_generation=2),
    )
    store.release()


def test_what_is_kept_for_another_client_is_written_anew_too(folder):
    for client in ("a", "b"):
        store = DirectoryPairStore(folder, cover=sealed(1), client=client)
        store.acquire()
        store.commit(replace(PAIR, generation=3))
        store.release()
    cover = sealed(2, previous=1)
    opened(folder, cover).release()
    assert cover.previous_key.startswith("is not needed")
    store = DirectoryPairStore(folder, cover=sealed(2), client="a")
    store.acquire()
    assert (store.load(), [pair.client for pair in store.kept()]) == (replace(PAIR, generation=3, client="a"), ["b"])
    store.release()
    with pytest.raises(ConfigurationError, match="is not the key of"):
        DirectoryPairStore(folder, cover=sealed(3), client="c").acquire()


def test_what_cannot_be_written_anew_stays_readable_under_the_previous_key(folder, monkeypatch):
    filled(folder, sealed(1))

    def full(path, data, **_):
        raise PairStoreFailure(f"{path}: cannot be written")

    monkeypatch.setattr(module, "write_secret", full)
    cover = sealed(2, previous=1)
    store = opened(folder, cover)
    assert cover.previous_key.startswith(f"is still needed: {folder / 'seal'} could not be written anew")
    assert (store.load(), store.load_record()) == (PAIR, RECORD)
    store.release()
    monkeypatch.undo()
    opened(folder, sealed(2, previous=1)).release()
    store = opened(folder, sealed(2))
    assert store.load() == PAIR
    store.release()


def test_the_previous_key_is_still_needed_for_what_cannot_be_read_now(folder):
    filled(folder, sealed(1))
    (folder / "answer.json").chmod(0o644)
    cover = sealed(2, previous=1)
    opened(folder, cover).release()
    assert cover.previous_key.startswith(f"is still needed: {folder / 'answer.json'} ")
    (folder / "answer.json").chmod(0o600)
    (folder / "record.json").write_bytes(b"torn")
    opened(folder, cover).release()
    assert cover.previous_key.startswith("is not needed")  # no key reads what is damaged


# ---- plain files -----------------------------------------------------------------------------------------------------


def test_a_plain_folder_is_read_once_and_sealed(folder):
    filled(folder, None, 2)
    store = opened(folder, sealed())
    assert store.load() == replace(PAIR, generation=2)
    assert store.load_record() == RECORD
    assert store.pending_answer() == replace(ANSWER, previous_generation=2)
    store.release()
    assert all(data.startswith(b"passoproxy-sealed") for data in contents(folder).values())
    filled(folder, sealed(), 2)


def test_a_plain_file_in_a_sealed_folder_is_not_used(folder, tmp_path):
    filled(tmp_path / "plain", None, 2)
    filled(folder, sealed(), 1)
    shutil.copy(tmp_path / "plain" / "pair.2.json", folder)
    store = opened(folder, sealed())
    with pytest.raises(
        PairDamaged, match=r"pair.2.json: is not used \(it is not sealed.*kept as pair.2.json.unsealed-1000"
    ):
        store.load()
    assert store.load() == PAIR
    store.release()


def test_sealing_goes_on_where_it_was_interrupted(folder, monkeypatch):
    filled(folder, None, 2)
    real, count = module.write_secret, 0

    def dying(path, data, **_):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(module, "write_secret", dying)
    with pytest.raises(KeyboardInterrupt):
        opened(folder, sealed())
    monkeypatch.undo()
    kinds = {name: data.startswith(b"passoproxy-sealed") for name, data in contents(folder).items()}
    assert kinds == {
        "seal": True,
        "pair.2.json": True,
        "record.json": False,
        "answer.json": False,
        "pair.1.json": False,
    }
    store = opened(folder, sealed())
    assert (store.load(), store.load_record()) == (replace(PAIR, generation=2), RECORD)
    store.release()
    assert all(data.startswith(b"passoproxy-sealed") for data in contents(folder).values())


def test_a_file_that_cannot_be_read_yet_is_still_taken_plain_later(folder):
    filled(folder)
    (folder / "pair.1.json").chmod(0o644)
    store = opened(folder, sealed())
    with pytest.raises(PairStoreFailure, match="chmod 600"):
        store.load()
    (folder / "pair.1.json").chmod(0o600)
    assert store.load() == PAIR
    store.release()
    opened(folder, sealed()).release()
    assert (folder / "pair.1.json").read_bytes().startswith(b"passoproxy-sealed")


# ---- another time, another folder ------------------------------------------------------------------------------------


def test_an_older_generation_in_the_place_of_a_newer_one(folder):
    filled(folder, sealed(), 3)
    shutil.copy(folder / "pair.2.json", folder / "pair.3.json")
    store = opened(folder, sealed())
    with pytest.raises(
        PairDamaged,
        match=r"pair.3.json: is not used \(it is number 2 in the place of 3\); kept as pair.3.json.rolled-back-1000",
    ):
        store.load()
    assert store.load().generation == 2
    store.release()


def test_a_record_from_before_the_pair_beside_it(folder):
    filled(folder, sealed(), 1)
    old = (folder / "record.json").read_bytes()
    filled(folder, sealed(), 2)
    (folder / "record.json").write_bytes(old)
    store = opened(folder, sealed())
    with pytest.raises(
        PairDamaged, match=r"record.json: is not used \(it was written before.*record.json.rolled-back-1000"
    ):
        store.load_record()
    store.save_record(RECORD)
    store.release()
    store = opened(folder, sealed())
    assert store.load_record() == RECORD
    store.release()


def test_a_record_that_could_not_be_written_is_no_roll_back(folder, monkeypatch):
    store = opened(folder, sealed())
    store.save_record(RECORD)
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for _ in range(3):
        with pytest.raises(PairStoreFailure):
            store.save_record(RECORD)
    monkeypatch.setattr(os, "rename", real)
    store.commit(PAIR)
    store.release()
    store = opened(folder, sealed())
    assert store.load_record() == RECORD
    store.release()


def test_a_file_of_another_folder_or_kind(folder, tmp_path):
    filled(folder, sealed(), 1)
    filled(tmp_path / "other", sealed(), 2)
    shutil.copy(tmp_path / "other" / "pair.2.json", folder)
    shutil.copy(folder / "record.json", folder / "answer.json")
    store = opened(folder, sealed())
    with pytest.raises(PairDamaged, match=r"belongs to another state folder.*foreign-1000"):
        store.load()
    with pytest.raises(PairDamaged, match=r"a sealed record in the place of a answer.*foreign-1000"):
        store.pending_answer()
    assert store.load() == PAIR
    store.release()


# ---- the identity ----------------------------------------------------------------------------------------------------


def test_a_lost_identity_stands_in_every_file(folder):
    filled(folder, sealed(), 2)
    (folder / "seal").unlink()
    store = opened(folder, sealed())
    assert store.load() == replace(PAIR, generation=2)
    store.release()
    assert (folder / "seal").exists()


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_damaged_identity_is_kept_aside_and_found_again(folder, at):
    filled(folder, sealed(), 2)
    flipped(folder / "seal", at)
    torn = (folder / "seal").read_bytes()
    store = opened(folder, sealed())
    assert store.load() == replace(PAIR, generation=2)
    store.release()
    assert (folder / "seal.damaged-1000").read_bytes() == torn


def test_an_identity_that_cannot_be_written_is_found_again_in_the_files(folder, monkeypatch):
    real = module.write_secret
    monkeypatch.setattr(
        module,
        "write_secret",
        lambda path, data: (_ for _ in ()).throw(PairStoreFailure("full")) if path.name == "seal" else real(path, data),
    )
    filled(folder, sealed())
    assert not (folder / "seal").exists()
    monkeypatch.undo()
    store = opened(folder, sealed())
    assert store.load() == PAIR
    store.release()
    assert (folder / "seal").exists()


def test_another_file_in_the_identitys_place_is_kept_aside(folder):
    filled(folder, sealed())
    shutil.copy(folder / "record.json", folder / "seal")
    store = opened(folder, sealed())
    assert store.load() == PAIR
    store.release()
    assert (folder / "seal.damaged-1000").exists()
