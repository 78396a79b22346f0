"""What may be done to the pair, as values. `execute(command)` of the process that holds the pair is the only way in.

Requests, the admin API, workers, followers and the fleet all send these; `messages` carries them between processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import field
from typing import Final, Generic, Protocol, TypeVar

from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.ports import Followed, LoggedOut, RawAnswer
from passoproxy.values import dataclass

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

HERE: Final = ""
"""`LoginPending.by` for logins that were begun in this process."""


class Command(Generic[T_co]):
    """A command whose answer is a T_co. Errors are raised: a CommandFailure, or a Refusal while the process shuts down."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refresh(Command[TokenSnapshot]):
    """Renew now; the answer comes when the new token is in use. `force` presents even a token that is remembered as dead, once."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class Import(Command[TokenSnapshot]):
    """Take over the pair of a document (as for `token import`). If the pair in use lives, the new one is proved by a refresh, unless `force`."""

    document: bytes = field(repr=False)
    force: bool = False


@dataclass(frozen=True, slots=True)
class Login(Command[TokenSnapshot]):
    """Take over the pair in a login's token answer: kept on disk first, interpreted second."""

    answer: RawAnswer


@dataclass(frozen=True, slots=True)
class Renew401(Command[int]):
    """The origin answered 401 to the bearer of `generation`: one refresh for all who ask; the answer is the generation in use then, 0 for none.

    `path` tells the path from others. `again`: the path had refused an older bearer before, so no refresh is started.
    Raises AuthorizationRequired while the chain is dead.
    """

    generation: int
    path: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Export(Command[dict[str, object]]):
    """Hand the pair over: the answer is the pair as the token endpoint answers it, with `obtained_at`. It holds secrets.

    From then on another program renews the pair; here it serves to its last second. That is durable before the answer is given. The pair comes
    back by an Import of itself, or by Refresh with `force`. Raises PersonNeeded if there is no pair, CannotCreate if the mark cannot be written.
    """


@dataclass(frozen=True, slots=True)
class Logout(Command[LoggedOut]):
    """Revoke the pair if the provider can, and erase it. CommandFailure without a pair, PairStoreFailure if it cannot be erased."""


@dataclass(frozen=True, slots=True)
class LoginPending(Command[None]):
    """Logins that were begun in the process `by` are open until `until` (epoch seconds) and no longer; answered at once."""

    until: float
    by: str = HERE


@dataclass(frozen=True, slots=True)
class Refill(Command[bool]):
    """Before a stop or a sleep: renew if more than a tenth of the pair's life is used, within so many seconds. Whether it was renewed."""

    within: float


@dataclass(frozen=True, slots=True)
class Leave(Command[None]):
    """The process ends within so many seconds: an unsent token request is dropped, a sent one has so long. No refresh is begun any more.

    Answered when everything placed before is done.
    """

    within: float


class PairOwner(Protocol):
    """The pair's owner as another process sees it: over a worker's channel, the control socket, or a shared store."""

    def changes(self) -> AsyncIterator[Followed]:
        """What is so now, then every change, within 100 ms on one machine. Ends, or raises PairStoreFailure, when the owner is gone."""
        ...

    async def execute(self, command: Command[T]) -> T:
        """Raises what the owner raises, OwnerGone if the owner is gone. A newer token comes by `changes` at about the same time."""
        ...
