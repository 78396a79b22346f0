"""What the configuration says about the grant: the terms on which a pair is obtained, renewed and given up.

Plain values; nothing here holds a secret but `Client`, which hides it.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from passoproxy.core.oauth.transaction import Replay
from passoproxy.values import dataclass

CALLBACK_PATH = "/oauth/callback"
"""Where the admin listener takes the provider's redirect."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The authorization server's addresses and what is asked of it (`oauth.*`). '' if the grant needs none."""

    token_url: str
    authorization_url: str = ""
    refresh_url: str = ""
    revocation_url: str = ""
    redirect_url: str = "http://127.0.0.1:8611/oauth/callback"
    scope: str = "*"
    pkce: bool = True


@dataclass(frozen=True, slots=True)
class Client:
    """Who passoproxy is to the provider. `auth` is body_json, body_form, basic or none (`oauth.client_auth`)."""

    client_id: str
    client_secret: str = field(default="", repr=False)
    auth: str = "body_json"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a pair is lived with.

    `refresh_at` is the share of the shorter lifetime after which it is renewed. `refresh_lifetime` is 'same' (as the access token's),
    seconds, or None for unknown. `link` is where a person authorises (the status page), for texts.
    """

    grant: Literal["authorization_code", "client_credentials", "static"] = "authorization_code"
    refresh_at: float = 0.4
    refresh_lifetime: Literal["same"] | float | None = "same"
    lost_answer_replay: Replay = "once"
    link: str = ""

    @property
    def needs_person(self) -> bool:
        """Whether only a person can replace a dead pair."""
        return self.grant == "authorization_code"
