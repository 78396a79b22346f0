"""`control.sock`: who may reach it, where it may be, and what may lie in its way."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from passoproxy.errors import AccessDenied, CannotCreate, CommandFailure, NotRunning, PairStoreOwned
from passoproxy.host import control_socket
from tests.other_users import OTHER, acting_as, needs_root, opened_to_all, planted_socket, what_came


def answers(listener: socket.socket, folder: Path) -> bool:
    """Whether what is said on one end arrives at the other."""
    with control_socket.connect(folder, 2.0) as client:
        listener.setblocking(True)
        served, _ = listener.accept()
        with served:
            client.sendall(b"hello")
            return served.recv(10) == b"hello"


@pytest.mark.parametrize("deep", [0, 1, 6])
def test_it_is_ours_alone_however_deep_the_folder(tmp_path: Path, deep: int) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * deep)
    folder.mkdir(parents=True, exist_ok=True)
    before = os.umask(0)
    try:
        listener = control_socket.listen(folder)
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    with listener:
        assert stat.S_IMODE((folder / "control.sock").stat().st_mode) == 0o600
        assert not listener.getblocking()
        assert answers(listener, folder)
    control_socket.remove(folder)
    control_socket.remove(folder)  # gone already
    assert os.listdir(folder) == []


def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    control_socket.listen(tmp_path).close()
    with pytest.raises(NotRunning, match=r"no daemon is running on .*start one with 'passoproxy serve'"):
        control_socket.connect(tmp_path, 1.0)
    with control_socket.listen(tmp_path) as listener:
        assert answers(listener, tmp_path)


def test_a_daemon_that_serves_it_keeps_it(tmp_path: Path) -> None:
    with control_socket.listen(tmp_path) as listener:
        with pytest.raises(PairStoreOwned, match=r"serving this state folder already.*state\.directory"):
            control_socket.listen(tmp_path)
        listener.setblocking(True)
        listener.accept()[0].close()
        assert answers(listener, tmp_path)


def test_a_daemon_that_hangs_keeps_it_too(tmp_path: Path) -> None:
    """A full queue: connecting waits, and nobody takes it."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as waiting:
        hanging.bind(str(path))
        hanging.listen(0)
        waiting.connect(str(path))
        with pytest.raises(PairStoreOwned):
            control_socket.listen(tmp_path)
        with pytest.raises(CommandFailure, match=r"the daemon cannot be reached .*see its log") as caught:
            control_socket.connect(tmp_path, 0.05)
        assert not isinstance(caught.value, NotRunning)
        assert path.exists()


def test_a_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("mine")
    with pytest.raises(CannotCreate, match=r"is no socket and is left as it is; move it away"):
        control_socket.listen(tmp_path)
    assert (tmp_path / "control.sock").read_text() == "mine"
    with pytest.raises(NotRunning):
        control_socket.connect(tmp_path, 1.0)


def test_a_folder_that_takes_no_socket(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", Path("/proc/self")):
        with pytest.raises(CannotCreate, match=r"control\.sock: cannot be made .*another state\.directory"):
            control_socket.listen(folder)


def test_no_folder_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(NotRunning):
            control_socket.connect(folder, 1.0)


def test_the_daemons_own_folder_in_somebody_elses(tmp_path: Path) -> None:
    inner = tmp_path / f"passoproxy-{os.geteuid()}"
    inner.mkdir()
    with control_socket.listen(inner) as listener:
        assert answers(listener, tmp_path)


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of another user, seen by one who may not enter it."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    inside = tmp_path
    while inside != Path("/tmp") and inside.parent != inside:
        inside.chmod(0o755)
        inside = inside.parent
    with control_socket.listen(folder):
        if os.geteuid() == 0:
            os.seteuid(65534)
        else:
            folder.chmod(0)
        try:
            yield folder
        finally:
            os.seteuid(os.getuid())
            folder.chmod(0o700)


def test_who_may_not_is_told_so(closed_folder: Path) -> None:
    with pytest.raises(AccessDenied, match=r"control\.sock: permission denied"):
        control_socket.connect(closed_folder, 1.0)


def test_who_may_not_cannot_put_a_socket_there_either(tmp_path: Path) -> None:
    """Something in the way that cannot be asked: bind says what is wrong."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    control_socket.listen(tmp_path).close()
    (tmp_path / "control.sock").chmod(0)
    opened_to_all(tmp_path)
    os.seteuid(65534)
    try:
        with pytest.raises(CannotCreate):
            control_socket.listen(tmp_path)
    finally:
        os.seteuid(0)


def test_two_at_once_leave_one(tmp_path: Path) -> None:
    made: list[socket.socket] = []
    refused: list[Exception] = []

    def one() -> None:
        try:
            made.append(control_socket.listen(tmp_path))
        except (CannotCreate, PairStoreOwned) as fault:
            refused.append(fault)

    control_socket.listen(tmp_path).close()
    one()
    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 3)
    made[0].close()


# ---- the peer (contract §2) ------------------------------------------------------------------------------------------


@needs_root
def test_nothing_is_sent_to_a_socket_that_another_user_planted(tmp_path: Path) -> None:
    for name in ("control.sock", "control-7.sock"):
        with planted_socket(tmp_path, name) as listener:
            with pytest.raises(AccessDenied, match=r"user 65534 .*answers there.* nothing was sent"):
                control_socket.connect(tmp_path, 2.0)
            assert what_came(listener) == b""
        (tmp_path / name).unlink()


@needs_root
@pytest.mark.parametrize(
    ("folder_of", "peer", "command", "taken"),
    [
        (0, 0, 0, True),
        (OTHER, OTHER, OTHER, True),
        (OTHER, OTHER, 0, True),  # root takes the folder's owner
        (0, OTHER, 0, False),
        (OTHER, 1234, 0, False),
        (OTHER, 0, OTHER, True),  # root answers everybody
        (OTHER, 1234, OTHER, False),
        (1234, 1234, OTHER, False),  # the folder's owner is nobody's daemon but root's to take
    ],
)
def test_whose_daemon_a_command_talks_to(tmp_path: Path, folder_of: int, peer: int, command: int, taken: bool) -> None:
    with planted_socket(tmp_path, user=peer):
        os.chown(tmp_path, folder_of, -1)
        with acting_as(command):
            if taken:
                control_socket.connect(tmp_path, 2.0).close()
            else:
                with pytest.raises(AccessDenied):
                    control_socket.connect(tmp_path, 2.0)


@needs_root
def test_a_daemons_own_folder_comes_before_what_the_owner_of_the_outer_one_planted(tmp_path: Path) -> None:
    opened_to_all(tmp_path)
    inner = tmp_path / "passoproxy-0"
    inner.mkdir(mode=0o700)
    with planted_socket(tmp_path) as planted, control_socket.listen(inner) as listener:
        os.chown(tmp_path, OTHER, -1)
        assert answers(listener, tmp_path)
        assert what_came(planted) == b""


@needs_root
def test_root_finds_the_folder_that_another_users_daemon_made_in_this_one(tmp_path: Path) -> None:
    inner = opened_to_all(tmp_path) / "passoproxy-1234"
    inner.mkdir()
    with planted_socket(inner, user=1234) as listener:
        os.chown(inner, 1234, -1)
        assert answers(listener, tmp_path)
        os.chown(tmp_path, OTHER, -1)  # who could have put anything there
        with pytest.raises(AccessDenied, match=f"belongs to user id {OTHER}") as refused:
            control_socket.connect(tmp_path, 2.0)
        assert refused.value.user == 1234
        os.chown(inner, OTHER, -1)  # not the folder that a daemon makes
        with pytest.raises(NotRunning):
            control_socket.connect(tmp_path, 2.0)
