"""What keys mean together: one fault each, with its remedy, and nothing for what is right."""

from __future__ import annotations

import base64
import sys

import pytest

from tests.config.writing import LEAST, Folder


def _oauth(more: str) -> str:
    return f"oauth: {{client_id: abc, client_secret_file: secret, {more}}}\n"


CUSTOM = "provider: custom\nupstream: {url: https://a.example}\n"

WRONG: list[tuple[str, str, str]] = [
    # reaching
    ("provider: custom\noauth: {grant: static, static_token_file: secret}\n", "upstream.url", "is missing"),
    (CUSTOM + _oauth("token_url: https://a.example/t"), "oauth.authorization_url", "grant authorization_code needs it"),
    (CUSTOM + _oauth("grant: client_credentials"), "oauth.token_url", "grant client_credentials needs it"),
    ("oauth: {client_secret_file: secret}\n", "oauth.client_id", "is missing"),
    (_oauth("grant: static"), "oauth.static_token_file", "is missing"),
    (_oauth("grant: client_credentials, client_auth: none"), "oauth.client_auth", "needs a secret"),
    ("oauth: {client_id: a, client_secret_file: null}\n", "oauth.client_secret_file", "is missing"),
    (LEAST + "upstream: {url: 'http://api.example.com'}\n", "upstream.url", "unencrypted"),
    (_oauth("token_url: 'http://10.0.0.1/t'"), "oauth.token_url", "unencrypted"),
    (_oauth("refresh_url: 'http://x.example/t'"), "oauth.refresh_url", "unencrypted"),
    (_oauth("revocation_url: 'http://x.example/t'"), "oauth.revocation_url", "unencrypted"),
    (_oauth("redirect_url: 'http://example.com/cb'"), "oauth.redirect_url", "neither https nor on this machine"),
    (_oauth("refresh_at: 0"), "oauth.refresh_at", "between 0 and 1"),
    (_oauth("refresh_at: 100%"), "oauth.refresh_at", "between 0 and 1"),
    (_oauth("refresh_token_lifetime: 0"), "oauth.refresh_token_lifetime", "end at once"),
    (_oauth('scope: "a \\" b"'), "oauth.scope", "no scope"),
    (_oauth("refresh_at: 40"), "oauth.refresh_at", "40 is more than the whole; write 40%, or 0.4"),
    (LEAST + "upstream: {url: 'https://169.254.169.254'}\n", "upstream.url", "credentials of the machine"),
    (LEAST + "upstream: {url: 'https://[::ffff:169.254.169.254]'}\n", "upstream.url", "credentials of the machine"),
    (
        LEAST + "upstream: {url: 'http://metadata.google.internal', allow_http: true}\n",
        "upstream.url",
        "credentials of the",
    ),
    (_oauth("token_url: 'https://[fe80::1]/t'"), "oauth.token_url", "credentials of the machine"),
    (LEAST + "upstream: {connect_timeout: 0}\n", "upstream.connect_timeout", "no time"),
    (LEAST + 'upstream: {user_agent: "a\\nb"}\n', "upstream.user_agent", "header field"),
    (LEAST + "upstream: {allow_methods: []}\n", "upstream.allow_methods", "is empty"),
    # listening
    (LEAST + "server: {listen: '0.0.0.0:8610'}\n", "server.listen", "reached from other machines"),
    (
        LEAST + "server: {listen: ['127.0.0.1:1', 'proxy.internal:80']}\n",
        "server.listen",
        "proxy.internal:80 can be reached",
    ),
    (LEAST + "admin: {listen: '[::]:1'}\n", "admin.listen", "there is no token"),
    (LEAST + "server: {listen: '127.0.0.1:8611'}\n", "admin.listen", "which server.listen has already"),
    (LEAST + "server: {listen: ['127.0.0.1:1', '127.0.0.1:1']}\n", "server.listen", "twice"),
    (LEAST + "server: {tls: {cert_file: secret}}\n", "server.tls.key_file", "beside server.tls.cert_file"),
    (LEAST + "server: {tls: {key_file: secret}}\n", "server.tls.cert_file", "beside server.tls.key_file"),
    (
        LEAST + "server: {tls: {client_ca_file: secret}}\n",
        "server.tls.client_ca_file",
        "no certificate of the server's own",
    ),
    (LEAST + "server: {limits: {header_bytes: 10}}\n", "server.limits.header_bytes", "between 1KiB and 1MiB"),
    (LEAST + "server: {limits: {idle_timeout: 0}}\n", "server.limits.idle_timeout", "no time"),
    (LEAST + "server: {allowed_hosts: []}\n", "server.allowed_hosts", "is empty"),
    (LEAST + "admin: {allowed_hosts: []}\n", "admin.allowed_hosts", "is empty"),
    (LEAST + "server: {unix_peers: [nobody-of-that-name]}\n", "server.unix_peers", "neither a user nor a group"),
    # storing
    (LEAST + "state: {directory: x}\ncache: {directory: x}\n", "cache.directory", "folder of state.directory"),
    (LEAST + "cache: {max_size: 4MiB}\n", "cache.max_size", "less than 8MiB"),
    (
        LEAST + "cache: {max_size: 8MiB, max_entry_size: 9MiB}\n",
        "cache.max_entry_size",
        "cache.max_size (8MiB); write 8MiB or less",
    ),
    (LEAST + "cache: {max_entry_size: 0}\n", "cache.max_entry_size", "between 1 byte"),
    (
        LEAST + "routes: [{name: a, match: /x}, {name: a, match: /y}]\n",
        "routes[1].name",
        "stands twice (first: c.yaml:2)",
    ),
    (LEAST + "routes: [{name: a, match: /x, methods: []}]\n", "routes[0].methods", "is empty"),
    (LEAST + "routes: [{name: a, match: /x, methods: [GET, PUT]}]\n", "routes[0].methods", "lists PUT"),
    (LEAST + "routes: [{name: a, match: /x, override: true}]\n", "routes[0].override", "no ttl"),
    (LEAST + "routes: [{name: a, match: /x, refresh_ahead: 1}]\n", "routes[0].refresh_ahead", "every hit"),
    (LEAST + "store: {url: 'mysql://x'}\n", "store.url", "redis://"),
    (LEAST + "store: {url: 'redis://[x'}\n", "store.url", "redis://"),
    (LEAST + "store: {url: 'redis://u:planted@h'}\n", "store.url", "holds a password"),
    (LEAST + "store: {url: 'redis://h/0?password=planted'}\n", "store.url", "holds a password"),
    (LEAST + "state: {previous_key_file: key}\n", "state.previous_key_file", "without a key"),
    (LEAST + "alerts: {runway: {log: 10%}}\n", "alerts.runway", "does not fall"),
    (LEAST + "alerts: {repeat: 0}\n", "alerts.repeat", "without a pause"),
    (LEAST + "gateway: {record: a, replay: b}\n", "gateway.replay", "beside gateway.record"),
    # files
    ("oauth: {client_id: a, client_secret_file: nowhere}\n", "oauth.client_secret_file", "is not there"),
    (
        "oauth: {client_id: a, client_secret_file: open}\n",
        "oauth.client_secret_file",
        "can be read by others (mode 0644)",
    ),
    ("oauth: {client_id: a, client_secret_file: empty}\n", "oauth.client_secret_file", "is empty"),
    ("oauth: {client_id: a, client_secret_file: .}\n", "oauth.client_secret_file", "cannot be read"),
    ("oauth: {client_id: a, client_secret_file: two}\n", "oauth.client_secret_file", "more than one line"),
    (LEAST + "server: {tls: {cert_file: secret, key_file: open}}\n", "server.tls.key_file", "can be read by others"),
    (LEAST + "server: {tls: {cert_file: secret, key_file: nope}}\n", "server.tls.key_file", "is not there"),
    (LEAST + "upstream: {ca_file: nope.pem}\n", "upstream.ca_file", "is not there"),
    (LEAST + "upstream: {ca_file: secret/x}\n", "upstream.ca_file", "is not there"),
    (_oauth("seed_file: open"), "oauth.seed_file", "can be read by others (mode 0644)"),
    (LEAST + "state: {key: planted}\n", "state.key", "32 bytes in base64"),
    (LEAST + "state: {key_file: secret}\n", "state.key_file", "32 bytes in base64"),
    (LEAST + "upstream: {proxy_file: secret}\n", "upstream.proxy_file", "URL of a proxy"),
    (LEAST + "alerts: {webhook_file: two}\n", "alerts.webhook_file", "http or https URL"),
    (LEAST + "server: {client_keys: 'planted'}\n", "server.client_keys", "line 1 is not 'name:key'"),
    (LEAST + "server: {client_keys_file: keys_twice}\n", "server.client_keys_file", "names 'a' again"),
    (LEAST + "server: {client_keys_file: keys_none}\n", "server.client_keys_file", "holds no 'name:key' line"),
]


def _files(folder: Folder) -> None:
    folder.write("open", "x", 0o644)
    folder.write("empty", " \n")
    folder.write("two", "planted\nplanted\n")
    folder.write("key", base64.b64encode(bytes(32)))
    folder.write("keys", "# clients\n\napp: planted1\nother:planted:2\n")
    folder.write("keys_twice", "a:planted\na:planted\n")
    folder.write("keys_none", "# nobody\n")


@pytest.mark.parametrize(("text", "key", "said"), WRONG, ids=[f"{key}: {said}" for _, key, said in WRONG])
def test_one_fault_with_its_key_and_remedy(folder: Folder, text: str, key: str, said: str) -> None:
    _files(folder)
    (fault,) = folder.faults(text)
    assert fault.key == key
    assert said in f"{fault.problem}; {fault.remedy}"
    assert fault.remedy
    assert fault.where.startswith("c.yaml")


RIGHT = [
    LEAST + "upstream: {url: 'http://127.0.0.1:8620'}\n",
    LEAST + "upstream: {url: 'http://[::1]:8620'}\n",
    _oauth("redirect_url: 'http://localhost:1/cb'"),
    _oauth("redirect_url: 'https://proxy.example.com/oauth/callback'"),
    _oauth("grant: static, static_token_file: secret, redirect_url: 'http://example.com'"),
    "oauth: {client_id: a, client_auth: none}\n",
    CUSTOM
    + "oauth: {grant: client_credentials, token_url: https://a.example/t, client_id: 1, client_secret_file: secret}\n",
    LEAST + "server: {listen: '0.0.0.0:1', allowed_peers: [10.0.0.0/8]}\n",
    LEAST + "server: {listen: '0.0.0.0:1', client_keys_file: keys}\n",
    LEAST + "server: {listen: '0.0.0.0:1', tls: {cert_file: secret, key_file: secret, client_ca_file: secret}}\n",
    LEAST + "server: {listen: ['unix:/run/a', 'fd:b', 'localhost:0', '[::1]:0', '127.0.0.1:0']}\n",
    LEAST + "server: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0', probe_listen: '127.0.0.1:0'}\n",
    LEAST + "admin: {listen: '0.0.0.0:1', token_file: secret}\n",
    LEAST + "admin: {listen: off, allowed_hosts: []}\n",
    LEAST + "server: {unix_peers: [root, daemon, 1000]}\n",
    LEAST + "state: {key_file: key, previous_key_file: key}\n",
    _oauth("seed_file: nowhere"),  # read only where no pair is stored
    _oauth("seed_file: secret"),
    LEAST + "cache: {max_size: 8MiB, max_entry_size: 8MiB, memory_size: 0}\n",
    LEAST + "store: {url: 'rediss://user@h:6380/0', password_file: secret}\n",
    LEAST + "routes: [{name: a, match: /x, methods: [POST, QUERY], ttl: 0}]\n",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_is_accepted(folder: Folder, text: str) -> None:
    _files(folder)
    folder.load(text)


@pytest.mark.parametrize(
    ("text", "code", "key"),
    [
        (LEAST.replace("abc", "your-client-id"), "placeholder", "oauth.client_id"),
        ("oauth: {client_id: a, client_auth: none, pkce: false}\n", "public_client_without_pkce", "oauth.pkce"),
        (LEAST + "upstream: {max_connections: 2}\n", "fewer_connections", "upstream.max_connections"),
        (LEAST + "server: {listen: '0.0.0.0:1', trust_network: true}\n", "network_trusted", "server.trust_network"),
        (LEAST + "upstream: {allow_http: true, url: 'http://a.example'}\n", "http_allowed", "upstream.allow_http"),
        (
            LEAST + "routes: [{name: a, match: /x, ttl: 1h, override: true, cookies: pass}]\n",
            "override_with_cookies",
            "routes[0].override",
        ),
    ],
)
def test_what_works_and_is_worth_a_look(folder: Folder, text: str, code: str, key: str) -> None:
    (warning,) = folder.load(text).warnings
    assert (warning.code, warning.key) == (code, key)
    assert str(warning).startswith("c.yaml:")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("alerts: {command: /nonexistent/tell}", ("alert_command_missing", "alerts.command")),
        ("alerts: {command: [nonexistent-tell, --now]}", ("alert_command_missing", "alerts.command")),
        ("alerts: {command: 'nonexistent-tell --now | cat'}", ("alert_command_missing", "alerts.command")),
        ("alerts: {command: '/bin/cat > /dev/null'}", None),
        ("alerts: {command: 'cd / && cat'}", None),
        ("alerts: {command: '\"$TELL\" now'}", None),
        ("alerts: {command: [sh, -c, 'cat']}", None),
        ("routes: [{name: a, match: /a/**}]", ("route_stores_nothing", "routes[0].ttl")),
        ("routes: [{name: a, match: /a/**, ttl: 1h}]", None),
        ("routes: [{name: a, match: /a/**, purges: [b]}]", None),
        ("cache: {mode: http}\nroutes: [{name: a, match: /a/**}]", None),
        ("cache: {max_size: 8MiB}", None),
    ],
)
def test_commands_and_routes_that_do_nothing_are_told_of(
    folder: Folder, text: str, told: tuple[str, str] | None
) -> None:
    warnings = folder.load(f"{LEAST}{text}\n").warnings
    assert [(each.code, each.key) for each in warnings] == ([told] if told else [])


def test_an_entry_is_never_larger_than_the_whole_cache(folder: Folder) -> None:
    assert folder.load(LEAST + "cache: {max_size: 8MiB}\n").settings.cache.as_mode().max_entry_bytes == 8 << 20


def test_a_secret_in_a_configuration_that_others_can_read_is_warned_about(folder: Folder) -> None:
    folder.write("c.yaml", "oauth: {client_id: a, client_secret: planted}\n", 0o644)
    (warning,) = folder.load(None).warnings
    assert (warning.code, warning.key) == ("secret_readable", "oauth.client_secret")
    assert "planted" not in str(warning)
    assert folder.load("oauth: {client_id: a, client_secret: planted}\n").warnings == ()


def test_in_a_container_a_readable_secret_of_root_is_only_warned_about(folder: Folder) -> None:
    path = folder.write("open", "x", 0o644)
    if path.stat().st_uid != 0:
        assert "can be read by others" in folder.fault(
            "oauth: {client_id: a, client_secret_file: open}\n", {"container": "podman"}
        )
        return
    (warning,) = folder.load("oauth: {client_id: a, client_secret_file: open}\n", {"container": "podman"}).warnings
    assert (warning.code, warning.key) == ("secret_readable", "oauth.client_secret_file")


def test_secrets_that_are_not_used_are_not_looked_at(folder: Folder) -> None:
    for text in (
        "oauth: {client_id: a, client_auth: none, client_secret_file: nowhere}\n",
        _oauth("static_token_file: nowhere"),
        "oauth: {grant: static, static_token_file: secret, client_secret_file: nowhere}\n",
    ):
        folder.load(text)


def test_a_shared_store_needs_its_library(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LEAST + "store: {url: 'redis://h'}\n"
    folder.load(text)
    monkeypatch.setitem(sys.modules, "redis", None)
    assert folder.fault(text) == (
        f"c.yaml:2: store.url: needs the redis library; run: {sys.executable} -m pip install 'redis>=8'"
    )
    folder.load(text, secrets=False)  # a command that only talks to a daemon
