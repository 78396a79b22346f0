"""The pipeline's entrance while there is a gateway: each request takes the whole road, so that its hop sees all of them."""

from __future__ import annotations

from passoproxy.proxy.hits import Hits


class WholeRoad(Hits):
    """Hits without the short way."""

    def try_hit(self, *_: object, **__: object) -> None:
        """None: `send` judges each request."""
