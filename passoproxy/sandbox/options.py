"""What a sandbox can be told to do, as one frozen value; reading texts such as `1h` is left to the command line."""

from dataclasses import dataclass, field

from passoproxy.sandbox.faults import parse_fault

FEATURES = (
    "content.country",
    "content.cruise",
    "content.cruise_operator",
    "content.individual",
    "content.tour_operator",
    "customer.travel_detail_link.create",
    "customer.travel_detail_link.manage",
    "customer.travel_detail_link.email_subscriptions",
)
"""What an account's plan can hold; an endpoint whose feature is missing answers 403."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Everything a sandbox can be told at start. Times are seconds. Raises ValueError for what cannot work."""

    host: str = "127.0.0.1"
    port: int = 8620
    """0 takes a free one."""

    lifetime: float = 3600.0
    """How long access and refresh token live, both equally long."""
    client_id: str = "demo"
    client_secret: str = field(default="demo", repr=False)
    redirect_uris: tuple[str, ...] = ()
    """Registered redirect addresses; empty: any http address on the loopback interface."""
    static_token: str | None = field(default=None, repr=False)
    """A bearer token that never ends, as the operator hands out on request."""

    punish_reuse: bool = False
    """Presenting a spent refresh token or code again revokes its whole chain."""
    revoke_old: bool = False
    """The old access token ends at rotation instead of living on to its own end."""
    allow_replays: int = 0
    """How often a spent refresh token is taken again while its successor is unused."""
    legacy_errors: bool = False
    """A dead refresh token is answered with 401 `invalid_request`, as older servers do, instead of 400 `invalid_grant`."""
    token_requests_per_minute: int = 300
    """Limit of the token endpoint; 0 switches it off."""

    latency: float = 0.0
    """Added before every answer of provider and origin."""
    slow_seconds: float = 10.0
    """How long `refresh_slow` and `origin_slow` make a client wait."""
    retry_after: int = 1
    """The `Retry-After` of `refresh_429`, `origin_429` and the concurrency limit."""
    faults: tuple[str, ...] = ()
    """Armed at start: `NAME` until switched off, `NAME:N` for the next N requests that it fits."""

    quota: int | None = None
    """Requests to the origin within 24 hours; more are answered 429."""
    quota_retry_after: bool = False
    """Whether the 429 of a used-up quota says when the period ends."""
    concurrency: int = 0
    """Requests under way at the origin at once; more are answered 429. 0: no limit."""
    concurrency_retry_after: bool = True
    """Whether the 429 of the concurrency limit carries `Retry-After`."""
    features: tuple[str, ...] = FEATURES
    """What the account's plan holds."""
    validators: bool = False
    """Answers carry an ETag and `If-None-Match` is answered with 304; the real service is not known to do so."""

    journal_size: int = 200_000
    """Requests, and tokens, that the journal remembers."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"sandbox option {name} is {value}, must be at least {least}")
        unknown = sorted(set(self.features) - set(FEATURES))
        if unknown:
            raise ValueError(
                f"sandbox option features: no such feature {unknown[0]!r}, known are {', '.join(FEATURES)}"
            )
        for fault in self.faults:
            parse_fault(fault)


_LEAST: dict[str, float] = {
    "port": 0,
    "lifetime": 1,
    "allow_replays": 0,
    "token_requests_per_minute": 0,
    "latency": 0,
    "slow_seconds": 0,
    "retry_after": 0,
    "quota": 0,
    "concurrency": 0,
    "journal_size": 1,
}
