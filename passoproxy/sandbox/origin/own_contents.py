"""The endpoints with which an account and tour operators keep their own texts."""

from aiohttp import web

from passoproxy.sandbox.origin.answering import Answers
from passoproxy.sandbox.origin.contents import Contents
from passoproxy.sandbox.origin.guard import Guard, Missing
from passoproxy.sandbox.origin.reading import read

_INDIVIDUAL, _OPERATOR = "content.individual", "content.tour_operator"


class OwnContents:
    """`/individual-content` and `/tour-operator/{code}`."""

    def __init__(self, answers: Answers, own: Contents, operators: dict[str, Contents]) -> None:
        self._answers, self._own, self._operators = answers, own, operators

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        own, operator = "/api/v2/individual-content", "/api/v2/tour-operator/{code}"
        return [
            web.get(own, guard(self.read, feature=_INDIVIDUAL)),
            web.post(own, guard(self.write, feature=_INDIVIDUAL)),
            web.delete(own, guard(self.delete, feature=_INDIVIDUAL)),
            web.post(f"{own}/order", guard(self.order, feature=_INDIVIDUAL)),
            web.get(operator, guard(self.read, feature=_OPERATOR)),
            web.post(operator, guard(self.write, feature=_OPERATOR)),
            web.delete(operator, guard(self.delete, feature=_OPERATOR)),
        ]

    async def read(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"content": self._meant(request).all()})

    async def write(self, request: web.Request) -> web.Response:
        contents, asked = self._meant(request), await read(request)
        return self._answers.json(request, {"content": contents.put(asked.fields.get("content"))})

    async def delete(self, request: web.Request) -> web.Response:
        contents, asked = self._meant(request), await read(request)
        contents.delete(asked.fields.get("content"))
        return self._answers.json(request, {})

    async def order(self, request: web.Request) -> web.Response:
        asked = await read(request)
        self._own.order(asked.fields.get("content"))
        return self._answers.json(request, {})

    def _meant(self, request: web.Request) -> Contents:
        code = request.match_info.get("code")
        if code is None:
            return self._own
        if code.upper() not in self._operators:
            raise Missing
        return self._operators[code.upper()]
