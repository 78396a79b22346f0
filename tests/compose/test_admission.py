"""Who may ask, as the configuration and the keys' file say at the moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from passoproxy.compose.pipeline import LiveAdmission, client_keys, named_keys
from passoproxy.config.secrets import FileSecret
from passoproxy.core.events import Warned
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import ClientNotAllowed, ConfigurationError
from tests.fakes import RememberingObserver
from tests.whole import Place


class Keys:
    """A keys' file, and the admission that reads it; `change` makes its next look due."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "keys"
        self.path.touch(mode=0o600)
        self.path.write_text(text)
        self.place = Place(folder)
        self.observer = RememberingObserver()
        self.now = 0.0
        self.admission = LiveAdmission(self._follow(), self.observer)

    def _follow(self, **sections: dict[str, object]) -> object:
        loaded = self.place.load(server={"client_keys_file": str(self.path)}, **sections)
        secret = loaded.secrets.client_keys
        assert isinstance(secret, FileSecret)
        secret._monotonic = lambda: self.now
        return loaded

    def change(self, text: str) -> None:
        self.path.write_text(text)
        self.now += 60

    def name(self, key: str) -> str | None:
        try:
            return self.admission().key_holder(fields_of([("X-Passoproxy-Key", key)])).name
        except ClientNotAllowed:
            return None


def test_changed_keys_count_by_themselves(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "# people\nann : one\n\n")
    assert (keys.name("one"), keys.name("two")) == ("ann", None)
    before = keys.admission()
    assert keys.admission() is before
    keys.change("bob:two\n")
    assert (keys.name("one"), keys.name("two")) == (None, "bob")
    assert keys.observer.events == []


def test_a_broken_file_leaves_the_last_keys_and_is_told_once(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "ann:one")
    keys.change("ann:one\nbob\n")
    assert keys.name("one") == "ann"
    assert keys.name("one") == "ann"
    (told,) = keys.observer.of(Warned)
    assert told.code == "client_keys_refused"  # type: ignore[attr-defined]
    assert "line 2 is not 'name:key'" in told.detail  # type: ignore[attr-defined]
    keys.change("bob:two")
    assert (keys.name("one"), keys.name("two")) == (None, "bob")
    assert [(each.code, each.over) for each in keys.observer.of(Warned)[1:]] == [("client_keys_refused", True)]  # type: ignore[attr-defined]


def test_a_configuration_that_does_not_do_changes_nothing(tmp_path: Path) -> None:
    keys = Keys(tmp_path, "ann:one")
    loaded = keys._follow(upstream={"allow_methods": ["GET"]})
    keys.path.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"server\.client_keys_file: line 1"):
        keys.admission.follow(loaded)  # type: ignore[arg-type]
    assert keys.admission().policy.allow_methods != ("GET",)
    assert keys.name("one") == "ann"
    keys.change("ann:three")
    keys.admission.follow(keys._follow(upstream={"allow_methods": ["GET"]}))  # type: ignore[arg-type]
    assert keys.admission().policy.allow_methods == ("GET",)
    assert keys.name("three") == "ann"


def test_without_a_file_nobody_needs_a_key(tmp_path: Path) -> None:
    admission = LiveAdmission(Place(tmp_path).load())
    assert admission().key_holder(fields_of([])).name == ""
    assert admission() is admission()


def test_keys_hold_colons_and_names_none() -> None:
    assert named_keys(" a : b:c \n#x:y\n\nd:e") == [("a", "b:c"), ("d", "e")]
    assert [key.name for key in client_keys("a:b")] == ["a"]


@pytest.mark.parametrize("line", ["a", "a:", ":b", " : "])
def test_a_line_that_is_no_key_is_named_without_what_it_holds(line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client_keys(f"ok:secret\n{line}")
    assert "line 2" in str(caught.value)
    assert "secret" not in str(caught.value)
