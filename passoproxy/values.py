"""The package's dataclasses: frozen and slotted, and cheaper to define and to make than the standard library's.

The standard library compiles eight functions for such a class, when it is imported, and its `__init__` finds each slot by name. Here `__init__`
alone is compiled, when the first value is made.

- `dataclass(frozen=True, slots=True)` sets the slots themselves in `__init__`, and refuses to change a field.
- `value`, for what is made many times for each request, assigns in `__init__` (a fifth of the time), and the type checker alone holds it frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, **more: bool) -> Callable[[type], type]:
        """As `dataclasses.dataclass`; it is that one for all but `frozen=True, slots=True` alone."""
        if more or not (frozen and slots):
            return dataclasses.dataclass(frozen=frozen, slots=slots, **more)
        return lambda given: _made(given, is_refusing=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def value(given: type[T]) -> type[T]:
    """Makes a slotted dataclass with equality and hash of its fields. No field is set after it was made, which mypy checks."""
    return _made(given, is_refusing=False)


def _made(given: type[T], *, is_refusing: bool) -> type[T]:
    given.__doc__ = given.__doc__ or given.__name__  # else the standard library makes one of the signature, slowly
    cls: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(given)
    fields = dataclasses.fields(cls)
    compared = _values(tuple(each.name for each in fields if each.compare))
    shown = tuple(each.name for each in fields if each.repr)

    def init(self: Any, *arguments: Any, **named: Any) -> None:
        cls.__init__ = _compiled(cls, fields, "_set_{0}(self, {1})" if is_refusing else "self.{0} = {1}")
        cls.__init__(self, *arguments, **named)

    def shown_as(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def equals(self: Any, other: Any) -> bool:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(compared(self))

    methods = {"__init__": init, "__repr__": shown_as, "__eq__": equals, "__hash__": hashed}
    for name, method in (methods | _REFUSING if is_refusing else methods).items():
        if given.__dict__.get(name) is None:  # Python itself sets `__hash__` to None beside an `__eq__`
            setattr(cls, name, method)
    return cls  # type: ignore[no-any-return]


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Gives the values of the attributes `names` as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _compiled(cls: Any, fields: Sequence[dataclasses.Field[Any]], setting: str) -> Any:
    """The `__init__` of `cls`, which sets a field as `setting` says with its name and value."""
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
            lines.append(f"    {setting.format(name, value)}")
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


_REFUSING = {"__setattr__": _setattr, "__delattr__": _delattr, "__getstate__": _getstate, "__setstate__": _setstate}
