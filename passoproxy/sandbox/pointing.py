"""The configuration lines that point a daemon at a sandbox."""

import json
from urllib.parse import urlsplit

from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.redirects import is_loopback


def configuration_lines(base_url: str, options: SandboxOptions, *, secret: str | None = None) -> str:
    """YAML that can be put into a daemon's configuration as it is; `secret` shows another one than the real."""
    upstream: dict[str, object] = {"url": base_url}
    if not is_loopback(urlsplit(base_url).hostname or ""):
        upstream["allow_http"] = True
    oauth: dict[str, object] = {
        "authorization_url": f"{base_url}/oauth/authorize",
        "token_url": f"{base_url}/oauth/token",
        "revocation_url": f"{base_url}/oauth/revoke",
        "client_id": options.client_id,
        "client_secret": options.client_secret if secret is None else secret,
    }
    return "\n".join(["upstream:", *_lines(upstream), "oauth:", *_lines(oauth)]) + "\n"


def _lines(section: dict[str, object]) -> list[str]:
    """A JSON string is a YAML string, whatever is in it; plain ones are shown without quotes."""
    return [f"  {name}: {_shown(value)}" for name, value in section.items()]


def _shown(value: object) -> str:
    if isinstance(value, str) and value.startswith("http://") and not set(value) & set(" #\"'\\"):
        return value
    return json.dumps(value)
