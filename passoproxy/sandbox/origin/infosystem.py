"""The news: messages about destinations in their own wrapper, and product news as an ordinary page."""

from aiohttp import web

from passoproxy.sandbox.data.news import message, product_news, ticker
from passoproxy.sandbox.origin.answering import Answers
from passoproxy.sandbox.origin.changes import Changes, moment
from passoproxy.sandbox.origin.guard import Guard
from passoproxy.sandbox.origin.paging import ordered, page_of
from passoproxy.sandbox.origin.reading import read

_FIRST_CHANGE_ID = 10_000


class Infosystem:
    """Everything under `/infosystem`; every important change is the newest message."""

    def __init__(self, answers: Answers, changes: Changes) -> None:
        self._answers, self._changes = answers, changes

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/infosystem/general", guard(self.general)),
            web.get("/api/v2/infosystem/passolution", guard(self.passolution)),
        ]

    async def general(self, request: web.Request) -> web.Response:
        asked = await read(request)
        language = asked.language()
        changed = [
            message(_FIRST_CHANGE_ID + number, code, "change", 9, moment(when), language)
            for number, when, code in self._changes.log
        ]
        found = ordered(asked, [*reversed(changed), *ticker(language)], ("created_at", "tagdate", "id", "country"))
        page = page_of(request, asked, found)
        meta = page["meta"]
        assert isinstance(meta, dict)
        result = {name: meta[name] for name in ("current_page", "last_page", "per_page", "total")}
        return self._answers.json(request, {"code": 0, "message": "success", "result": result | {"data": page["data"]}})

    async def passolution(self, request: web.Request) -> web.Response:
        asked = await read(request)
        found = ordered(asked, product_news(asked.language()), ("id", "date"))
        return self._answers.json(request, page_of(request, asked, found))
