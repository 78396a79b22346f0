"""The pair in a real folder: durable, closed to others, never overwritten, one owner."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import begun
from passoproxy.errors import CannotCreate, PairDamaged, PairStoreFailure, PairStoreOwned
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair import directory, serialization
from passoproxy.stores.pair.directory import ROOM, DirectoryPairStore
from passoproxy.stores.pair.settlement import NAME as FLEET
from passoproxy.stores.pair.settlement import Memory, remember, remembered

ROOT = Path(__file__).parents[3]
PAIR = Pair("access-1", "def-1", 1.5, 3601.5, 3601.5, 3600.0, "*", "sub", 1, "login", "salt", "issuer")
ANSWER = RawAnswer(b"\x00\xff raw", "text/html", 7.5, "authorization_code", 3)


HOLD = """
import sys
from pathlib import Path
from passoproxy.stores.pair.directory import DirectoryPairStore
held = DirectoryPairStore(Path(sys.argv[1]))
held.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "state"


@pytest.fixture
def store(folder):
    store = DirectoryPairStore(folder, wall=lambda: 1000.0)
    store.acquire()
    yield store
    store.release()


def test_an_empty_folder_holds_nothing(store):
    assert (store.load(), store.load_record(), store.pending_answer()) == (None, ChainRecord(), None)


def test_what_is_written_is_read_by_the_next_owner(store, folder):
    record = ChainRecord("unknown", "lost", ("a", "b"), begun(None, "def-1", 1, 2.5), 2.5, (("name", "value"),))
    store.commit(PAIR)
    store.save_record(record)
    store.keep_answer(ANSWER)
    store.release()
    again = DirectoryPairStore(folder)
    again.acquire()
    assert (again.load(), again.load_record(), again.pending_answer()) == (PAIR, record, ANSWER)
    bare = Pair("a", generation=2)
    again.commit(bare)
    assert (again.load(), again.pending_answer()) == (bare, None)
    again.release()


def test_the_previous_generation_is_kept_and_older_ones_go(store, folder):
    for number in range(1, 6):
        store.commit(replace(PAIR, generation=number))
    assert sorted(path.name for path in folder.glob("pair.*")) == ["pair.4.json", "pair.5.json"]


class Disk:
    """What reaches the disk, in order: `write`, `fsync`, `rename` and `unlink` with the file's name, `.` for the folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.calls = folder, list[str]()
        for name in ("write", "fsync", "rename", "unlink"):
            monkeypatch.setattr(os, name, self._recording(name, getattr(os, name)))

    def _recording(self, name: str, real):
        def call(which, *more):
            path = Path(os.readlink(f"/proc/self/fd/{which}") if isinstance(which, int) else more[0] if more else which)
            self.calls.append(f"{name} {'.' if path == self.folder else path.name}")
            return real(which, *more)

        return call


WRITTEN = ["write {0}.new", "fsync {0}.new", "rename {0}", "fsync ."]


@pytest.mark.parametrize(
    ("act", "calls"),
    [
        (lambda store: store.reserve(), ["write reserve", "fsync reserve", "fsync ."]),
        (lambda store: store.save_record(ChainRecord("healthy")), [each.format("record.json") for each in WRITTEN]),
        (lambda store: store.commit(PAIR), [*(each.format("pair.1.json") for each in WRITTEN), "unlink answer.json"]),
        (lambda store: store.keep_answer(ANSWER), [each.format("answer.json") for each in WRITTEN]),
        (lambda store: store.erase(), ["unlink answer.json", "unlink reserve", "fsync .", "fsync ."]),
    ],
    ids=["reserve", "record", "pair", "answer", "erase"],
)
def test_content_and_names_are_synced_before_it_counts_as_done(store, folder, monkeypatch, act, calls):
    disk = Disk(folder, monkeypatch)
    act(store)
    assert disk.calls == calls


def test_an_answer_is_written_into_the_room_and_synced_and_what_is_set_aside_too(store, folder, monkeypatch):
    store.reserve()
    disk = Disk(folder, monkeypatch)
    store.keep_answer(ANSWER)
    assert disk.calls == ["write reserve", "fsync reserve", "rename answer.json", "fsync ."]
    (folder / "pair.1.json").touch(0o600)
    disk.calls.clear()
    with pytest.raises(PairDamaged):
        store.load()
    assert disk.calls == ["rename pair.1.json.damaged-1000", "fsync ."]


def test_a_generation_below_what_is_there_moves_the_higher_ones_aside(store, folder):
    store.commit(replace(PAIR, generation=7))
    store.commit(replace(PAIR, generation=2))
    assert store.load().generation == 2
    assert (folder / "pair.7.json.damaged-1000").exists()


def test_erasing_forgets_pairs_and_answers_and_keeps_the_record(store, folder):
    store.commit(PAIR)
    store.keep_answer(ANSWER)
    store.reserve()
    store.save_record(ChainRecord("dead"))
    store.erase()
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "record.json"]
    assert store.load() is None


def test_a_crash_within_erasing_leaves_no_answer_that_would_count_for_a_pair(store, folder, monkeypatch):
    store.commit(replace(PAIR, generation=1))
    store.keep_answer(ANSWER)
    removed: list[str] = []
    monkeypatch.setattr(directory, "remove", lambda path: removed.append(path.name))
    monkeypatch.setattr(directory, "sync_folder", lambda path: removed.append("synced"))
    store.erase()
    assert removed == ["answer.json", "reserve", "synced", "pair.1.json", "synced"]


# ---- whose they are --------------------------------------------------------------------------------------------------


def of(folder: Path, client: str) -> DirectoryPairStore:
    """The store under the configuration of `client`."""
    made = DirectoryPairStore(folder, wall=lambda: 1000.0, client=client)
    made.acquire()
    return made


def left_by(folder: Path, client: str, *generations: int) -> None:
    """Generations, a record, an answer that was not committed, and what was remembered of a fleet."""
    store = of(folder, client)
    record = store.load_record()
    for number in generations:
        store.commit(replace(PAIR, generation=number, access_token=f"{client}-{number}", client=""))
    intent = begun(None, "def-1", generations[-1], 2.5)
    store.save_record(replace(record, state="healthy", intent=intent))
    store.keep_answer(replace(ANSWER, previous_generation=generations[-1], client=""))
    remember(store.folder / FLEET, Memory(True, generations[-1], client=client))
    store.release()


def holds(folder: Path, client: str) -> tuple[str, int, int, int]:
    """The access token, and the generations that record, answer and memory speak of."""
    store = of(folder, client)
    pair, record, answer = store.load(), store.load_record(), store.pending_answer()
    memory = remembered(store.folder / FLEET)
    store.release()
    intent = record.intent.generation if record.intent else 0
    return (pair.access_token if pair else "", intent, answer.previous_generation if answer else 0, memory.seen)


def test_each_client_has_a_pair_of_its_own(folder):
    left_by(folder, "a", 6, 7)
    assert holds(folder, "b") == ("", 0, 0, 0)
    left_by(folder, "b", 7)
    assert holds(folder, "a") == ("a-7", 7, 7, 7)
    assert holds(folder, "b") == ("b-7", 7, 7, 7)
    store = of(folder, "c")
    assert [(pair.client, pair.access_token) for pair in store.kept()] == [("a", "a-7"), ("b", "b-7")]
    store.release()
    names = [path.name.partition(".kept-")[0] for path in folder.iterdir()]
    assert sorted(names) == sorted(
        ["lock", "record.json", *["answer.json", "fleet.json", "pair.7.json"] * 2, "pair.6.json"]
    )


def test_a_crash_within_the_change_of_clients_loses_nothing(folder, monkeypatch):
    left_by(folder, "a", 6, 7)
    left_by(folder, "b", 7)
    real, crashes = os.rename, 0
    for at in range(1, 9):
        renamed = 0

        def rename(*given: object) -> None:
            nonlocal renamed
            renamed += 1
            if renamed == at:  # noqa: B023
                raise KeyboardInterrupt
            real(*given)

        monkeypatch.setattr(os, "rename", rename)
        store = DirectoryPairStore(folder, client="a")
        try:
            store.acquire()
        except KeyboardInterrupt:
            crashes += 1
        monkeypatch.setattr(os, "rename", real)
        store.release()
        assert holds(folder, "a") == ("a-7", 7, 7, 7)
        assert holds(folder, "b") == ("b-7", 7, 7, 7)
    assert crashes == 7  # three files that go, and four that come


def test_what_cannot_be_moved_is_not_given_to_another_client(folder, monkeypatch):
    left_by(folder, "a", 7)
    real = os.rename
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    store = of(folder, "b")
    for read in (store.load, store.pending_answer):
        with pytest.raises(PairStoreFailure, match=r"cannot be moved to \S+kept-\w+ \(Read-only"):
            read()
    monkeypatch.setattr(os, "rename", real)
    assert (store.load(), store.pending_answer()) == (None, None)
    store.release()
    assert holds(folder, "a")[0] == "a-7"


def test_a_file_in_the_way_of_one_that_comes_back_is_moved_aside(folder):
    left_by(folder, "a", 7)
    assert holds(folder, "b")[0] == ""
    (folder / "pair.7.json").write_bytes(b"{")
    assert holds(folder, "a")[0] == "a-7"
    assert (folder / "pair.7.json.superseded-1000").read_bytes() == b"{"


def test_what_belongs_to_nobody_yet_is_claimed(folder):
    store = DirectoryPairStore(folder)
    store.acquire()
    store.commit(PAIR)
    store.release()
    for path in folder.glob("pair.*"):
        path.write_bytes(serialization.encode(replace(PAIR, client="")))
    assert holds(folder, "a")[0] == holds(folder, "a")[0] == "access-1"
    assert holds(folder, "b")[0] == ""


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_missing_until_one_is_saved(store, folder):
    store.commit(PAIR)
    store.save_record(ChainRecord("healthy"))
    (folder / "record.json").write_bytes(b"{")
    with pytest.raises(PairDamaged, match=r"record.json: cannot be understood .*kept as record.json.damaged-1000"):
        store.load_record()
    store.release()
    again = DirectoryPairStore(folder)
    again.acquire()
    with pytest.raises(PairDamaged, match=r"record.json: is missing"):
        again.load_record()
    again.save_record(ChainRecord("unknown"))
    assert again.load_record() == ChainRecord("unknown")
    again.release()


def test_a_record_that_was_removed_is_missing_where_a_token_has_been_spent(store, folder):
    store.commit(PAIR)
    assert store.load_record() == ChainRecord()  # a crash between the first pair and its record
    store.commit(replace(PAIR, generation=2))
    with pytest.raises(PairDamaged, match=r"record.json: is missing"):
        store.load_record()


# ---- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777, 0o177])
def test_modes_whatever_the_umask(tmp_path, mask):
    store = DirectoryPairStore(tmp_path / "state")
    before = os.umask(mask)
    try:
        store.acquire()
        store.reserve()
        store.save_record(ChainRecord())
        store.keep_answer(ANSWER)
        store.commit(PAIR)
    finally:
        os.umask(before)
    assert mode(tmp_path / "state") == 0o700
    assert {mode(path) for path in (tmp_path / "state").iterdir()} == {0o600}
    store.release()


def test_a_folder_that_is_open_to_others_is_closed(tmp_path):
    tmp_path.chmod(0o777)
    store = DirectoryPairStore(tmp_path)
    store.acquire()
    assert mode(tmp_path) == 0o700
    store.release()


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604])
def test_a_file_that_is_open_to_others_is_refused_and_not_touched(store, folder, bits):
    store.commit(PAIR)
    path = folder / "pair.1.json"
    path.chmod(bits)
    with pytest.raises(PairStoreFailure, match=f"pair.1.json.*mode 0{bits:o}.*chmod 600"):
        store.load()
    assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_file_of_another_owner_is_refused(store, folder):
    store.commit(PAIR)
    os.chown(folder / "pair.1.json", 12345, 12345)
    with pytest.raises(PairStoreFailure, match=r"user id 12345.*chown"):
        store.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving folders away needs root")
def test_in_a_folder_of_another_owner_one_of_our_own_is_made(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    tmp_path.chmod(0o755)
    store = DirectoryPairStore(tmp_path)
    store.acquire()
    assert store.folder == tmp_path / f"passoproxy-{os.geteuid()}"
    assert (mode(store.folder), mode(tmp_path)) == (0o700, 0o755)
    store.release()
    os.chown(store.folder, 12345, 12345)
    with pytest.raises(CannotCreate, match="12345"):
        DirectoryPairStore(tmp_path).acquire()


@pytest.mark.parametrize("made", ["folder", "link", "pipe"])
def test_what_is_no_plain_file_is_refused(store, folder, made):
    path = folder / "pair.1.json"
    if made == "folder":
        path.mkdir(mode=0o700)
    elif made == "pipe":
        os.mkfifo(path, 0o600)
    else:
        (folder / "elsewhere").write_bytes(b"{}")
        path.symlink_to(folder / "elsewhere")
    with pytest.raises(PairStoreFailure, match=r"pair\.1\.json"):
        store.load()
    assert os.path.lexists(path)


# ---- damage ----------------------------------------------------------------------------------------------------------


def torn(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data.replace(b"access-1", b"access-2")


def newer(data: bytes) -> bytes:
    return data.replace(b'"version": 1', b'"version": 2')


def other_kind(data: bytes) -> bytes:
    return data.replace(b'"passoproxy": "pair"', b'"passoproxy": "record"')


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        flipped,
        newer,
        other_kind,
        lambda data: b"",
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: b"\xff\x00",
        lambda data: b"[" * 100_000,
    ],
)
def test_a_damaged_generation_is_kept_aside_and_the_one_before_is_given(store, folder, damage):
    store.commit(PAIR)
    store.commit(replace(PAIR, generation=2))
    path = folder / "pair.2.json"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(PairDamaged, match=r"pair\.2\.json.*pair\.2\.json\.damaged-1000") as told:
        store.load()
    assert "access-" not in str(told.value)
    assert (folder / "pair.2.json.damaged-1000").read_bytes() == damaged
    assert store.load() == PAIR
    path.write_bytes(b"again")
    path.chmod(0o600)
    with pytest.raises(PairDamaged, match="damaged-1000-1"):
        store.load()
    assert (folder / "pair.2.json.damaged-1000").read_bytes() == damaged


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("access_token", 5),
        ("generation", True),
        ("generation", "1"),
        ("access_until", "x"),
        ("access_until", True),
        ("obtained_at", float("inf")),
        ("scope", 1),
    ],
)
def test_a_whole_file_with_a_member_of_another_type_is_damaged(store, folder, member, value):
    import hashlib

    store.commit(PAIR)
    path = folder / "pair.1.json"
    whole = json.loads(path.read_bytes())
    whole["content"][member] = value
    whole["sha256"] = hashlib.sha256(json.dumps(whole["content"], sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(whole))
    with pytest.raises(PairDamaged, match="cannot be understood"):
        store.load()


def test_a_generation_under_another_name_is_damaged(store, folder):
    store.commit(PAIR)
    shutil.copy(folder / "pair.1.json", folder / "pair.5.json")
    with pytest.raises(PairDamaged, match="another generation"):
        store.load()
    assert store.load() == PAIR


@pytest.mark.parametrize(("name", "read"), [("record.json", "load_record"), ("answer.json", "pending_answer")])
def test_other_damaged_files_are_kept_aside_too(store, folder, name, read):
    store.save_record(ChainRecord("dead", spent=("x",)))
    store.keep_answer(ANSWER)
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b'"content": {', b'"content": {"x": [1],'))
    with pytest.raises(PairDamaged, match=name):
        getattr(store, read)()
    assert (folder / f"{name}.damaged-1000").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"state": "x"},
        {"state": "x", "reason": "", "spent": "no list", "intent": None, "asked_at": 1, "extra": []},
        {"state": "x", "reason": "", "spent": [], "intent": None, "asked_at": 1, "extra": [["one"]]},
    ],
)
def test_a_record_of_another_shape_is_damaged(store, folder, content):
    import hashlib

    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path = folder / "record.json"
    path.write_text(json.dumps({"passoproxy": "record", "version": 1, "sha256": checksum, "content": content}))
    path.chmod(0o600)
    with pytest.raises(PairDamaged):
        store.load_record()


# ---- faults of the disk ----------------------------------------------------------------------------------------------


def test_an_answer_goes_into_the_room_that_was_taken(store, folder):
    store.reserve()
    room = (folder / "reserve").stat()
    assert room.st_size == ROOM
    assert room.st_blocks * 512 >= ROOM
    store.reserve()
    assert (folder / "reserve").stat().st_ino == room.st_ino
    store.keep_answer(replace(ANSWER, body=b"x" * 65536))
    assert (folder / "answer.json").stat().st_ino == room.st_ino
    assert not (folder / "reserve").exists()
    assert store.pending_answer().body == b"x" * 65536


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_a_full_disk_leaves_what_was_there(store, folder, monkeypatch, call):
    store.commit(PAIR)
    store.save_record(ChainRecord("healthy"))

    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        for write in (
            lambda: store.commit(replace(PAIR, generation=2)),
            lambda: store.save_record(ChainRecord("dead")),
            lambda: store.keep_answer(ANSWER),
        ):
            with pytest.raises(PairStoreFailure, match=r"\.json.*No space left"):
                write()
        if call != "rename":
            with pytest.raises(PairStoreFailure, match="no room for an answer"):
                store.reserve()
    assert (store.load(), store.load_record().state, store.pending_answer()) == (PAIR, "healthy", None)
    assert not list(folder.glob("*.new"))


def test_other_faults_are_told_by_their_path(store, folder, monkeypatch):
    store.commit(PAIR)

    def broken(*args: object, **named: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for call, act in [
        ("open", store.load),
        ("unlink", store.erase),
        ("rename", lambda: store.commit(replace(PAIR, generation=0))),
    ]:
        with monkeypatch.context() as patched:
            patched.setattr(os, call, broken)
            with pytest.raises(PairStoreFailure, match="Input/output"):
                act()
    assert store.load() == PAIR
    store.release()
    shutil.rmtree(folder)
    with pytest.raises(PairStoreFailure, match="state"):
        store.load()
    with pytest.raises(PairStoreFailure, match="state"):
        store.erase()


def test_a_read_that_breaks_off(store, monkeypatch):
    store.commit(PAIR)

    def broken(*args: object) -> bytes:
        raise OSError

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(PairStoreFailure, match=r"OSError.*nothing was changed"):
        store.load()


def test_a_write_that_breaks_off_leaves_the_room_that_was_taken(store, folder, monkeypatch):
    store.reserve()

    def broken(*args: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(PairStoreFailure, match="Input/output"):
            store.keep_answer(ANSWER)
    assert (folder / "reserve").exists()
    store.reserve()
    store.keep_answer(ANSWER)
    assert store.pending_answer() == ANSWER


@pytest.mark.parametrize("path", ["/proc/passoproxy/state", "/dev/null/state"])
def test_a_folder_that_cannot_be_made(path):
    with pytest.raises(CannotCreate, match=r"set state\.directory") as told:
        DirectoryPairStore(Path(path)).acquire()
    assert told.value.exit_code == 73


def test_a_lock_that_cannot_be_made(folder):
    folder.mkdir(parents=True)
    (folder / "lock").mkdir()
    with pytest.raises(CannotCreate, match="lock"):
        DirectoryPairStore(folder).acquire()


def test_a_file_system_without_locks(folder, monkeypatch):
    import fcntl

    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(CannotCreate, match="No locks available"):
        DirectoryPairStore(folder).acquire()


# ---- one owner -------------------------------------------------------------------------------------------------------


def test_a_second_owner_is_refused_and_told_who_has_it(folder):
    pipes, environ = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}, {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes, text=True, env=environ)
    try:
        assert holder.stdout.readline() == "held\n"
        store = DirectoryPairStore(folder)
        with pytest.raises(PairStoreOwned, match=f"already served by process {holder.pid} on .* since .* GMT"):
            store.acquire()
        holder.kill()
        holder.wait()
        store.acquire()  # the kernel gave the lock up with its owner
        store.acquire()
        store.release()
        store.release()
    finally:
        holder.kill()
        holder.communicate()


def test_an_owner_without_a_name_is_another_process(store, folder):
    (folder / "lock").write_text("garbage")
    with pytest.raises(PairStoreOwned, match="another process"):
        DirectoryPairStore(folder).acquire()


def test_left_overs_of_a_write_are_removed_by_the_next_owner(folder):
    folder.mkdir(parents=True)
    (folder / "pair.3.json.new").write_text("half")
    (folder / "record.json.new").mkdir()
    store = DirectoryPairStore(folder)
    store.acquire()
    assert not (folder / "pair.3.json.new").exists()
    assert (folder / "record.json.new").exists()
    store.release()


def test_a_generation_that_nobody_has_read_is_not_written_over(store, folder):
    """A file that is open to others stops the reading; a login meanwhile begins at generation 1 again."""
    store.commit(PAIR)
    store.save_record(ChainRecord("healthy", spent=("digest",)))
    store.release()
    for name in ("pair.1.json", "record.json"):
        (folder / name).chmod(0o644)
    before = {name: (folder / name).read_bytes() for name in ("pair.1.json", "record.json")}
    again = DirectoryPairStore(folder, wall=lambda: 2000.0)
    again.acquire()
    with pytest.raises(PairStoreFailure, match="open to others"):
        again.load_record()
    with pytest.raises(PairStoreFailure, match="open to others"):
        again.load()
    newer = replace(PAIR, access_token="access-2", refresh_token="def-2")
    again.commit(newer)
    again.save_record(ChainRecord("healthy"))
    assert (again.load(), again.load_record()) == (newer, ChainRecord("healthy"))
    assert (folder / "pair.1.json.damaged-2000").read_bytes() == before["pair.1.json"]
    assert (folder / "record.json.unread-2000").read_bytes() == before["record.json"]
    again.commit(newer)  # its own generation may be written again
    assert len(list(folder.glob("pair.1.json*"))) == 2
    again.release()


def test_a_record_that_is_no_file_is_moved_away(store, folder):
    (folder / "elsewhere").write_text("{}")
    (folder / "record.json").symlink_to(folder / "elsewhere")
    store.save_record(ChainRecord("healthy"))
    assert (folder / "record.json.unread-1000").is_symlink()
    assert store.load_record().state == "healthy"
    assert (folder / "elsewhere").read_text() == "{}"


def test_a_lock_that_somebody_removed_is_made_again(store, folder):
    store.reserve()
    (folder / "lock").unlink()
    with pytest.raises(PairStoreFailure):
        unwritable(store, folder)
    store.reserve()
    with pytest.raises(PairStoreOwned, match=str(os.getpid())):
        DirectoryPairStore(folder).acquire()


def unwritable(store: DirectoryPairStore, folder: Path) -> None:
    """A lock that cannot be made, for whatever reason, stops a refresh and not the daemon."""
    (folder / "lock").mkdir()
    try:
        store.reserve()
    finally:
        (folder / "lock").rmdir()


def test_a_lock_that_another_process_made_anew_is_its_own(store, folder):
    store.commit(PAIR)
    (folder / "lock").unlink()
    other = DirectoryPairStore(folder)
    other.acquire()
    other.commit(replace(PAIR, generation=2))
    other.save_record(ChainRecord("healthy", spent=("digest",)))
    for write in (store.reserve, lambda: store.commit(PAIR), lambda: store.save_record(ChainRecord("healthy"))):
        with pytest.raises(PairStoreOwned):
            write()
    assert (other.load(), other.load_record().spent) == (replace(PAIR, generation=2), ("digest",))
    store.commit(replace(PAIR, generation=3))  # an answer that came meanwhile is the only one there is
    assert other.load() == replace(PAIR, generation=3)
    store.release()  # what was held is let go, and the other's is untouched
    with pytest.raises(PairStoreOwned):
        store.acquire()
    other.reserve()
    other.release()
    store.acquire()


def test_a_store_that_was_not_taken_has_no_lock_to_prove(folder):
    folder.mkdir(parents=True)
    DirectoryPairStore(folder).reserve()
