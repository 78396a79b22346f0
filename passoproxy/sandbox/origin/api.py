"""The origin put together: every endpoint of `/api/v2`, sharing one memory of trips, contents and changes."""

from collections.abc import Callable

from aiohttp import web

from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin.account import Account
from passoproxy.sandbox.origin.answering import Answers
from passoproxy.sandbox.origin.basics import Basics
from passoproxy.sandbox.origin.changes import Changes
from passoproxy.sandbox.origin.contents import operators, own
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.information import Information
from passoproxy.sandbox.origin.infosystem import Infosystem
from passoproxy.sandbox.origin.own_contents import OwnContents
from passoproxy.sandbox.origin.records import Records
from passoproxy.sandbox.origin.requirements import RequirementEndpoints
from passoproxy.sandbox.origin.sharing import Sharing
from passoproxy.sandbox.origin.travel_details import TravelDetails
from passoproxy.sandbox.origin.trips import Trips


def routes(
    options: SandboxOptions, clock: Callable[[], float], answers: Answers, guard: Guard, changes: Changes
) -> list[web.RouteDef]:
    """The routes of the origin, and of the pages that its links open."""
    own_texts, operator_texts = own(clock), operators(clock)
    trips = Trips(clock, changes)
    records = Records(changes, own_texts, operator_texts)
    sharing = Sharing(trips, guard)
    return [
        *Account(options, answers, clock).routes(guard),
        *Basics(answers).routes(guard),
        *RequirementEndpoints(answers, changes, records, sharing, guard).routes(),
        *Information(answers, changes, records, sharing).routes(guard),
        *Infosystem(answers, changes).routes(guard),
        *TravelDetails(answers, trips, records).routes(guard),
        *OwnContents(answers, own_texts, operator_texts).routes(guard),
    ]
