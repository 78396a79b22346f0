"""The package's dataclasses do what the standard library's do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from passoproxy import values


def made_by(dataclass: Any) -> tuple[type[Any], type[Any], type[Any]]:
    @dataclass(frozen=True, slots=True)
    class Plain:
        """A value."""

        name: str
        size: int = 3
        tags: list[str] = dataclasses.field(default_factory=list, compare=False)
        secret: str = dataclasses.field(default="", repr=False)
        twice: int = dataclasses.field(init=False)
        kind: ClassVar[str] = "plain"

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.size)

    @dataclass(frozen=True, slots=True)
    class Single:
        value: float

        def __repr__(self) -> str:
            return "single"

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    return Plain, Single, Nothing


def outcome(work: Callable[[], object]) -> object:
    """What `work` gives, or its exception as text without the name of this module's function."""
    try:
        return work()
    except Exception as error:
        return type(error).__name__, str(error)


ROWS: dict[str, Callable[[Any, Any, Any], object]] = {
    "made by place and name": lambda plain, *_: repr(plain("a", tags=["x"], secret="word", size=4)),
    "defaults": lambda plain, *_: dataclasses.astuple(plain("a")),
    "its own list": lambda plain, *_: plain("a").tags is plain("a").tags,
    "an argument is missing": lambda plain, *_: plain(),
    "one too many": lambda plain, *_: plain("a", 1, [], "", 5),
    "one unknown": lambda plain, *_: plain("a", other=1),
    "none to be given": lambda plain, *_: plain("a", twice=1),
    "equal": lambda plain, *_: (plain("a", tags=["x"]) == plain("a"), plain("a") == plain("b"), plain("a") == "a"),
    "hash": lambda plain, *_: (hash(plain("a", tags=["x"])) == hash(plain("a")), len({plain("a"), plain("a")})),
    "unhashable": lambda _, single, __: hash(single([])),
    "one field": lambda _, single, __: (
        single(1.0) == single(1.0),
        single(1.0) == single(2.0),
        hash(single(1)) is None,
    ),
    "its own repr": lambda _, single, __: repr(single(1.0)),
    "no field": lambda *kinds: (repr(kinds[2]()), kinds[2]() == kinds[2](), len({kinds[2](), kinds[2]()})),
    "assigned": lambda plain, *_: setattr(plain("a"), "name", "b"),
    "deleted": lambda plain, *_: delattr(plain("a"), "name"),
    "another attribute": lambda plain, *_: hasattr(plain("a"), "__dict__"),
    "replaced": lambda plain, *_: repr(dataclasses.replace(plain("a"), size=9)),
    "as a dict": lambda plain, *_: dataclasses.asdict(plain("a")),
    "copied": lambda plain, *_: repr(copy.copy(plain("a", 5))) + repr(copy.deepcopy(plain("a", 5))),
    "fields": lambda plain, *_: [each.name for each in dataclasses.fields(plain)],
    "matched": lambda plain, *_: plain.__match_args__,
    "documented": lambda plain, *_: plain.__doc__,
}


PAIRS: dict[str, tuple[Any, Any]] = {
    "dataclass": (values.dataclass, dataclasses.dataclass),
    "value": (lambda **_: values.value, lambda **_: dataclasses.dataclass(slots=True, unsafe_hash=True)),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("row", ROWS)
def test_as_the_standard_library(row: str, pair: str) -> None:
    ours, theirs = (outcome(lambda kind=kind: ROWS[row](*made_by(kind))) for kind in PAIRS[pair])
    assert ours == theirs


@values.dataclass(frozen=True, slots=True)
class Sent:
    """One that can be imported."""

    name: str


def test_a_value_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Sent("a"))) == Sent("a")


def test_what_is_not_frozen_is_the_standard_librarys() -> None:
    @values.dataclass(slots=True)
    class Open:
        name: str = ""

    one = Open()
    one.name = "x"
    assert one == Open("x")
