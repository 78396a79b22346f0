"""Every key of the configuration with its default (contract §3), as one frozen tree.

Seconds are floats, sizes bytes, shares between 0 and 1, listen addresses parsed. Secrets do not show in repr. What several keys
mean together is judged in `checking`; nothing here reads files or the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from passoproxy.config import types
from passoproxy.config.types import (
    AdminListen,
    AsTuple,
    AuthorityUrl,
    BasePath,
    Command,
    Count,
    Duration,
    FieldName,
    FilePath,
    HeaderFields,
    HostEntry,
    Label,
    Listen,
    Method,
    Name,
    NetworkEntry,
    OriginEntry,
    Pattern,
    Percentage,
    ProxyChoice,
    RefreshLifetime,
    Replay,
    Secret,
    SecretUrl,
    Share,
    Size,
    Text,
    TlsVersion,
    Url,
)
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy

DEFAULT_CLIENT_SECRET_FILE = Path("/etc/passoproxy/client_secret")
DEFAULT_LISTEN = (types.TcpAddress("127.0.0.1", 8610), types.TcpAddress("::1", 8610))
"""Less the second one where there is no IPv6 (the server's finding)."""

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Section(BaseModel):
    """One mapping of the file: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, validate_default=False
    )


class UpstreamSettings(Section):
    """The origin, and how requests reach it."""

    url: AuthorityUrl | None = None
    headers: HeaderFields = Field(default_factory=dict)
    connect_timeout: Duration = 5.0
    read_timeout: Duration = 30.0
    max_connections: Count = 32
    max_concurrency: Count = 4
    daily_budget: Annotated[int, Field(ge=0)] | None = None
    queue_timeout: Duration = 10.0
    proxy: ProxyChoice = "env"
    proxy_file: FilePath | None = None
    user_agent: Name | None = None
    ca_file: FilePath | None = None
    allow_http: bool = False
    rewrite_absolute_urls: bool = True
    deny_paths: Annotated[tuple[Pattern, ...], AsTuple] = ("/__internal/**",)
    allow_paths: Annotated[tuple[Pattern, ...], AsTuple] = ("/**",)
    allow_methods: Annotated[tuple[Method, ...], AsTuple] = _METHODS


class OAuthSettings(Section):
    """The grant, its endpoints and credentials, and when the pair is renewed."""

    grant: Literal["authorization_code", "client_credentials", "static"] = "authorization_code"
    authorization_url: Url | None = None
    token_url: Url | None = None
    refresh_url: Url | None = None
    revocation_url: Url | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    client_secret_file: FilePath | None = DEFAULT_CLIENT_SECRET_FILE
    client_auth: Literal["body_json", "body_form", "basic", "none"] = "body_json"
    scope: str = "*"
    pkce: bool = True
    redirect_url: Url = "http://127.0.0.1:8611/oauth/callback"
    static_token: Secret | None = None
    static_token_file: FilePath | None = None
    refresh_at: Share = 0.4
    lost_answer_replay: Replay = "once"
    """A float is the grace period in seconds. Null in the file leaves the preset's word, else `once`."""
    refresh_on_exit: Literal["auto", "always", "never"] = "auto"
    seed_file: FilePath | None = None
    refresh_token_lifetime: RefreshLifetime = "same"  # noqa: S105


class TlsSettings(Section):
    """TLS of the proxy listener."""

    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client_ca_file: FilePath | None = None
    min_version: TlsVersion = "1.2"


class LimitSettings(Section):
    """What one client may cost."""

    header_bytes: Size = 32 * 1024
    body_bytes: Size = 16 * 1024 * 1024
    header_timeout: Duration = 10.0
    idle_timeout: Duration = 75.0
    min_rate: Annotated[int, Field(ge=0)] = 256
    """Bytes a second, after the first 10 s of a request body."""
    connections: Count = 1024


class ServerSettings(Section):
    """The proxy listener and who may use it."""

    listen: Listen = DEFAULT_LISTEN
    public_url: AuthorityUrl | None = None
    base_path: BasePath = ""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    allowed_hosts: Annotated[tuple[HostEntry, ...], AsTuple] = _LOCAL_HOSTS
    allowed_origins: Annotated[tuple[OriginEntry, ...], AsTuple] = ()
    allowed_peers: Annotated[tuple[NetworkEntry, ...], AsTuple] = ()
    client_keys: Secret | None = None
    client_keys_file: FilePath | None = None
    trust_network: bool = False
    unix_peers: Annotated[tuple[Text, ...], AsTuple] = ()
    tls: TlsSettings = Field(default_factory=TlsSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    shutdown_grace: Duration = 20.0


class AdminSettings(Section):
    """The admin listener; `listen` is empty where it is off."""

    listen: AdminListen = (types.TcpAddress("127.0.0.1", 8611),)
    token: Secret | None = None
    token_file: FilePath | None = None
    allowed_hosts: Annotated[tuple[HostEntry, ...], AsTuple] = _LOCAL_HOSTS
    probe_listen: AdminListen = ()
    public_url: Url | None = None


class StateSettings(Section):
    """Where the pair lives."""

    directory: FilePath | None = None
    key: Secret | None = None
    key_file: FilePath | None = None
    previous_key: Secret | None = None
    previous_key_file: FilePath | None = None

    @property
    def folder(self) -> Path:
        """The directory, which reading has settled."""
        return _settled(self.directory, "state.directory")


class CacheSettings(Section):
    """Where and how answers are stored."""

    directory: FilePath | None = None
    max_size: Size = 1024 * 1024 * 1024
    memory_size: Size = 64 * 1024 * 1024
    max_entry_size: Size = 16 * 1024 * 1024
    mode: Literal["routes", "http"] = "routes"
    shared: bool = True
    offline: bool = False
    on_revoked: Literal["keep", "purge_private", "purge"] = "purge_private"

    @property
    def folder(self) -> Path:
        """The directory, which reading has settled."""
        return _settled(self.directory, "cache.directory")

    def as_mode(self) -> CacheMode:
        """What the core asks of it."""
        return CacheMode(
            http=self.mode == "http",
            shared=self.shared,
            offline=self.offline,
            max_entry_bytes=min(self.max_entry_size, self.max_size),
        )


class StoreSettings(Section):
    """A store that many instances share."""

    url: Name | None = None
    password: Secret | None = None
    password_file: FilePath | None = None
    ca_file: FilePath | None = None


class KeySettings(Section):
    """How a request of a route becomes a key."""

    ignore_query: Annotated[tuple[Name, ...], AsTuple] = ()
    sort_query: bool = True
    ignore_body_fields: Annotated[tuple[Name, ...], AsTuple] = ()
    headers: Annotated[tuple[FieldName, ...], AsTuple] = ()


class BypassSettings(Section):
    """Names whose presence makes a request a pass."""

    query_has: Annotated[tuple[Name, ...], AsTuple] = ()
    body_has: Annotated[tuple[Name, ...], AsTuple] = ()


class RouteSettings(Section):
    """One route."""

    name: Label
    match: Pattern
    methods: Annotated[tuple[Method, ...], AsTuple] = ("GET",)
    ttl: Duration | None = None
    override: bool = False
    stale_while_revalidate: Duration = 0.0
    stale_if_error: Duration = 0.0
    stale_if_unauthorized: Duration = 0.0
    refresh_ahead: Share = 0.0
    key: KeySettings = Field(default_factory=KeySettings)
    volatile_fields: Annotated[tuple[Name, ...], AsTuple] = ()
    bypass_when: BypassSettings = Field(default_factory=BypassSettings)
    cookies: Literal["remove", "pass"] = "remove"
    client_authorization: Literal["replace", "pass"] = "replace"
    private: bool = False
    tags: Annotated[tuple[Label, ...], AsTuple] = ()
    purges: Annotated[tuple[Label, ...], AsTuple] = ()

    def policy(self) -> RoutePolicy:
        """What the core asks of it; HEAD always goes with GET."""
        return RoutePolicy(
            name=self.name,
            match=self.match,
            methods=(*self.methods, "HEAD") if "GET" in self.methods and "HEAD" not in self.methods else self.methods,
            ttl=self.ttl,
            override=self.override,
            stale_while_revalidate=self.stale_while_revalidate,
            stale_if_error=self.stale_if_error,
            stale_if_unauthorized=self.stale_if_unauthorized,
            refresh_ahead=self.refresh_ahead,
            key=KeyPolicy(self.key.ignore_query, self.key.sort_query, self.key.ignore_body_fields, self.key.headers),
            volatile_fields=self.volatile_fields,
            bypass_when=BypassPolicy(self.bypass_when.query_has, self.bypass_when.body_has),
            pass_cookies=self.cookies == "pass",
            pass_client_authorization=self.client_authorization == "pass",
            private=self.private,
            tags=self.tags,
            purges=self.purges,
        )


class RunwayThresholds(Section):
    """What is left of the shorter lifetime when each level is told."""

    log: Percentage = 0.55
    notify: Percentage = 0.5
    page: Percentage = 0.35


class AlertSettings(Section):
    """Who is told that a person will be needed."""

    command: Command | None = None
    webhook: SecretUrl | None = None
    webhook_file: FilePath | None = None
    runway: RunwayThresholds = Field(default_factory=RunwayThresholds)
    repeat: Duration = 3600.0
    events: Annotated[tuple[Literal["login", "refresh", "import", "logout", "dead"], ...], AsTuple] = ()


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    access: bool = True
    query: Literal["full", "names", "none"] = "names"


class TracingSettings(Section):
    """Where traces go."""

    otlp_endpoint: Url | None = None


class GatewaySettings(Section):
    """Recording real traffic, and answering from a recording."""

    record: FilePath | None = None
    replay: FilePath | None = None


class Settings(Section):
    """The whole configuration."""

    provider: Literal["passolution", "custom"] = "passolution"
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)
    oauth: OAuthSettings = Field(default_factory=OAuthSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    admin: AdminSettings = Field(default_factory=AdminSettings)
    state: StateSettings = Field(default_factory=StateSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    routes: Annotated[tuple[RouteSettings, ...], AsTuple] = ()
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)

    def policies(self) -> tuple[RoutePolicy, ...]:
        """Every route as the core wants it, in order."""
        return tuple(route.policy() for route in self.routes)

    def plain(self) -> dict[str, Any]:
        """The tree as the file would have it: short durations and sizes, secrets masked."""
        return self.model_dump(mode="json")


def _settled(directory: Path | None, key: str) -> Path:
    if directory is None:
        raise ValueError(f"{key} is not settled; read the configuration with passoproxy.config.load.load")
    return directory
