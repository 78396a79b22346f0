"""`dataclass` for the package: what the standard library's does, but frozen and slotted classes are cheaper to define and to make.

The standard library compiles eight functions for such a class, when it is imported, and its `__init__` finds each slot by name. Here `__init__`
alone is compiled, when the first value is made, and it sets the slots themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, **more: bool) -> Callable[[type], type]:
        """As `dataclasses.dataclass`; it is that one for all but `frozen=True, slots=True` alone."""
        if more or not (frozen and slots):
            return dataclasses.dataclass(frozen=frozen, slots=slots, **more)
        return _frozen


def _frozen(given: type) -> type:
    given.__doc__ = given.__doc__ or given.__name__  # else the standard library makes one of the signature, slowly
    cls: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(given)
    fields = dataclasses.fields(cls)
    compared = _values(tuple(each.name for each in fields if each.compare))
    shown = tuple(each.name for each in fields if each.repr)

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        cls.__init__ = _compiled(cls, fields)
        cls.__init__(self, *arguments, **named)

    def shown_as(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def equals(self: Any, other: Any) -> bool:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(compared(self))

    methods = (init, shown_as, equals, hashed, _setattr, _delattr, _getstate, _setstate)
    for name, method in zip(_METHODS, methods, strict=True):
        if given.__dict__.get(name) is None:  # Python itself sets `__hash__` to None beside an `__eq__`
            setattr(cls, name, method)
    return cls  # type: ignore[no-any-return]


_METHODS = (
    *("__init__", "__repr__", "__eq__", "__hash__"),
    *("__setattr__", "__delattr__", "__getstate__", "__setstate__"),
)


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Gives the values of the attributes `names` as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _compiled(cls: Any, fields: Sequence[dataclasses.Field[Any]]) -> Any:
    """The `__init__` of `cls`."""
    scope: dict[str, Any] = {"_absent": object()}
    arguments, lines = ["self"], []
    for each in fields:
        name = value = each.name
        scope[f"_set_{name}"] = getattr(cls, name).__set__
        scope[f"_default_{name}"], scope[f"_make_{name}"] = each.default, each.default_factory
        if each.default is not dataclasses.MISSING:
            default, value = f"_default_{name}", name if each.init else f"_default_{name}"
        elif each.default_factory is not dataclasses.MISSING:
            made = f"_make_{name}()"
            default, value = "_absent", f"{made} if {name} is _absent else {name}" if each.init else made
        else:
            default = ""
        if each.init:
            arguments.append(f"{name}={default}" if default else name)
        if each.init or default:
            lines.append(f"    _set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    exec("\n".join((f"def __init__({', '.join(arguments)}):", *(lines or ["    pass"]))), scope)  # noqa: S102 our own text
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _setattr(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in dataclasses.fields(self)]


def _setstate(self: Any, state: Sequence[Any]) -> None:
    for each, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)
