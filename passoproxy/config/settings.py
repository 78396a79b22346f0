"""Every key of the configuration with its default (contract §3), as one frozen tree.

Seconds are floats, sizes bytes, shares between 0 and 1, listen addresses parsed. Secrets do not show in repr. `validate` checks what
several keys mean together; nothing here reads files or the environment.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from passoproxy.config import types as t
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy, RoutePolicy

DEFAULT_CLIENT_SECRET_FILE = Path("/etc/passoproxy/client_secret")
DEFAULT_LISTEN = (t.TcpAddress("127.0.0.1", 8610), t.TcpAddress("::1", 8610))
"""Without the second one on a machine that has no IPv6."""

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class Section(BaseModel):
    """One mapping of the file: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, validate_default=False
    )


class UpstreamSettings(Section):
    """The origin, and how requests reach it."""

    url: t.OriginUrl | None = None
    headers: t.HeaderFields = Field(default_factory=dict)
    connect_timeout: t.Duration = 5.0
    read_timeout: t.Duration = 30.0
    max_connections: t.Count = 32
    max_concurrency: t.Count = 4
    daily_budget: t.Natural | None = None
    queue_timeout: t.Duration = 10.0
    proxy: t.ProxyChoice = "env"
    proxy_file: t.FilePath | None = None
    user_agent: t.Name | None = None
    ca_file: t.FilePath | None = None
    allow_http: bool = False
    rewrite_absolute_urls: bool = True
    deny_paths: t.Patterns = ("/__internal/**",)
    allow_paths: t.Patterns = ("/**",)
    allow_methods: t.Methods = _METHODS


class OAuthSettings(Section):
    """The grant, its endpoints and credentials, and when the pair is renewed."""

    grant: Literal["authorization_code", "client_credentials", "static"] = "authorization_code"
    authorization_url: t.Url | None = None
    token_url: t.Url | None = None
    refresh_url: t.Url | None = None
    revocation_url: t.Url | None = None
    client_id: t.Text | None = None
    client_secret: t.Secret | None = None
    client_secret_file: t.FilePath | None = DEFAULT_CLIENT_SECRET_FILE
    client_auth: Literal["body_json", "body_form", "basic", "none"] = "body_json"
    scope: str = "*"
    pkce: bool = True
    redirect_url: t.Url = "http://127.0.0.1:8611/oauth/callback"
    static_token: t.Secret | None = None
    static_token_file: t.FilePath | None = None
    refresh_at: t.Share = 0.4
    lost_answer_replay: t.Replay = "once"
    """A float is the grace period in seconds. Null in the file leaves the preset's word, else `once`."""
    refresh_on_exit: Literal["auto", "always", "never"] = "auto"
    seed_file: t.FilePath | None = None
    refresh_token_lifetime: t.RefreshLifetime = "same"  # noqa: S105


class TlsSettings(Section):
    """TLS of the proxy listener."""

    cert_file: t.FilePath | None = None
    key_file: t.FilePath | None = None
    client_ca_file: t.FilePath | None = None
    min_version: t.TlsVersion = "1.2"


class LimitSettings(Section):
    """What one client may cost."""

    header_bytes: t.Size = 32 * 1024
    body_bytes: t.Size = 16 * 1024 * 1024
    header_timeout: t.Duration = 10.0
    idle_timeout: t.Duration = 75.0
    min_rate: t.Natural = 256
    """Bytes a second, after the first 10 s of a request body."""
    connections: t.Count = 1024


class ServerSettings(Section):
    """The proxy listener and who may use it."""

    listen: t.Listen = DEFAULT_LISTEN
    public_url: t.AuthorityUrl | None = None
    base_path: t.BasePath = ""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    allowed_hosts: t.Hosts = _LOCAL_HOSTS
    allowed_origins: t.Origins = ()
    allowed_peers: t.Networks = ()
    client_keys: t.Secret | None = None
    client_keys_file: t.FilePath | None = None
    trust_network: bool = False
    unix_peers: t.Texts = ()
    tls: TlsSettings = Field(default_factory=TlsSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    shutdown_grace: t.Duration = 20.0

    @property
    def is_guarded(self) -> bool:
        """Whether something says who may use a listener that other machines reach."""
        named = self.client_keys or self.client_keys_file or self.tls.client_ca_file or self.allowed_peers
        return bool(named or self.trust_network)


class AdminSettings(Section):
    """The admin listener; an empty `listen` means off."""

    listen: t.AdminListen = (t.TcpAddress("127.0.0.1", 8611),)
    token: t.Secret | None = None
    token_file: t.FilePath | None = None
    allowed_hosts: t.Hosts = _LOCAL_HOSTS
    probe_listen: t.AdminListen = ()
    public_url: t.Url | None = None

    @property
    def is_guarded(self) -> bool:
        """Whether a token guards a listener that other machines reach."""
        return bool(self.token or self.token_file)


class StateSettings(Section):
    """Where the pair lives."""

    directory: t.FilePath | None = None
    key: t.Secret | None = None
    key_file: t.FilePath | None = None
    previous_key: t.Secret | None = None
    previous_key_file: t.FilePath | None = None

    @property
    def folder(self) -> Path:
        """The directory, which `load` has set."""
        return _settled(self.directory, "state.directory")


class CacheSettings(Section):
    """Where and how answers are stored."""

    directory: t.FilePath | None = None
    max_size: t.Size = 1024 * 1024 * 1024
    memory_size: t.Size = 64 * 1024 * 1024
    max_entry_size: t.Size = 16 * 1024 * 1024
    mode: Literal["routes", "http"] = "routes"
    shared: bool = True
    offline: bool = False
    on_revoked: Literal["keep", "purge_private", "purge"] = "purge_private"

    @property
    def folder(self) -> Path:
        """The directory, which `load` has set."""
        return _settled(self.directory, "cache.directory")

    def as_mode(self) -> CacheMode:
        """The mode as the core takes it."""
        return CacheMode(
            http=self.mode == "http",
            shared=self.shared,
            offline=self.offline,
            max_entry_bytes=min(self.max_entry_size, self.max_size),
        )


class StoreSettings(Section):
    """A store that many instances share."""

    url: t.Name | None = None
    password: t.Secret | None = None
    password_file: t.FilePath | None = None
    ca_file: t.FilePath | None = None


class KeySettings(Section):
    """How a request of a route becomes a key."""

    ignore_query: t.Names = ()
    sort_query: bool = True
    ignore_body_fields: t.Names = ()
    headers: t.FieldNames = ()


class BypassSettings(Section):
    """Names whose presence makes a request a pass."""

    query_has: t.Names = ()
    body_has: t.Names = ()


class RouteSettings(Section):
    """One route."""

    name: t.Label
    match: t.Pattern
    methods: t.Methods = ("GET",)
    ttl: t.Duration | None = None
    override: bool = False
    stale_while_revalidate: t.Duration = 0.0
    stale_if_error: t.Duration = 0.0
    stale_if_unauthorized: t.Duration = 0.0
    refresh_ahead: t.Share = 0.0
    key: KeySettings = Field(default_factory=KeySettings)
    volatile_fields: t.Names = ()
    bypass_when: BypassSettings = Field(default_factory=BypassSettings)
    cookies: Literal["remove", "pass"] = "remove"
    client_authorization: Literal["replace", "pass"] = "replace"
    private: bool = False
    tags: t.Labels = ()
    purges: t.Labels = ()

    def policy(self) -> RoutePolicy:
        """The route as the core takes it. HEAD always goes with GET."""
        same = {
            each.name: getattr(self, each.name) for each in fields(RoutePolicy) if each.name in type(self).model_fields
        }
        adds_head = "GET" in self.methods and "HEAD" not in self.methods
        given = same | {
            "methods": (*self.methods, "HEAD") if adds_head else self.methods,
            "key": KeyPolicy(**dict(self.key)),
            "bypass_when": BypassPolicy(**dict(self.bypass_when)),
            "pass_cookies": self.cookies == "pass",
            "pass_client_authorization": self.client_authorization == "pass",
        }
        return RoutePolicy(**given)


class RunwayThresholds(Section):
    """The share of the shorter lifetime that is left when each level is told."""

    log: t.Percentage = 0.55
    notify: t.Percentage = 0.5
    page: t.Percentage = 0.35


class AlertSettings(Section):
    """Alerts before a person is needed."""

    command: t.Command | None = None
    webhook: t.SecretUrl | None = None
    webhook_file: t.FilePath | None = None
    runway: RunwayThresholds = Field(default_factory=RunwayThresholds)
    repeat: t.Duration = 3600.0
    events: Annotated[tuple[Literal["login", "refresh", "import", "logout", "dead"], ...], t.AsTuple] = ()


class LogSettings(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    access: bool = True
    query: Literal["full", "names", "none"] = "names"


class TracingSettings(Section):
    """Where traces go."""

    otlp_endpoint: t.CollectorUrl | None = None


class GatewaySettings(Section):
    """Recording real traffic, and answering from a recording."""

    record: t.FilePath | None = None
    replay: t.FilePath | None = None


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
    routes: Annotated[tuple[RouteSettings, ...], t.AsTuple] = ()
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)

    def policies(self) -> tuple[RoutePolicy, ...]:
        """Every route as the core takes it, in order."""
        return tuple(route.policy() for route in self.routes)

    def plain(self) -> dict[str, Any]:
        """The tree as the file would have it: short durations and sizes, secrets masked."""
        return self.model_dump(mode="json")


def _settled(directory: Path | None, key: str) -> Path:
    if directory is None:
        raise ValueError(f"{key} is not set; read the configuration with passoproxy.config.load.load")
    return directory
