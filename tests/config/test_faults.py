"""What is wrong, right, or worth a look in a configuration: one table each, and the line that a person reads.

A row is a configuration, `=>`, and a part of the only fault. `;;` ends a line. `LEAST` is put before a text without `oauth`, and `+` stands
for client id and secret. The files that rows name are written by `folder`.
"""

from __future__ import annotations

import base64
import sys
from datetime import date

import pytest
from pydantic import BaseModel, ValidationError

from passoproxy.config.faults import explain
from passoproxy.config.sources import Layer
from tests.config.writing import LEAST, Folder

FAULTS = r"""
provider: custom ;; oauth: {grant: static, static_token_file: secret}  =>  upstream.url: is missing
CUSTOM oauth: {+token_url: https://a.example/t}  =>  oauth.authorization_url: grant authorization_code needs it
CUSTOM oauth: {+grant: client_credentials}  =>  oauth.token_url: grant client_credentials needs it
oauth: {client_secret_file: secret}  =>  oauth.client_id: is missing
oauth: {+grant: static}  =>  oauth.static_token_file: is missing
oauth: {+grant: client_credentials, client_auth: none}  =>  oauth.client_auth: needs a secret
oauth: {client_id: a, client_secret_file: null}  =>  oauth.client_secret_file: is missing
upstream: {url: 'http://api.example.com'}  =>  upstream.url: unencrypted
oauth: {+token_url: 'http://10.0.0.1/t'}  =>  oauth.token_url: unencrypted
oauth: {+refresh_url: 'http://x.example/t'}  =>  oauth.refresh_url: unencrypted
oauth: {+revocation_url: 'http://x.example/t'}  =>  oauth.revocation_url: unencrypted
oauth: {+redirect_url: 'http://example.com/cb'}  =>  oauth.redirect_url: neither https nor on this machine
oauth: {+refresh_at: 0}  =>  oauth.refresh_at: between 0 and 1
oauth: {+refresh_at: 100%}  =>  oauth.refresh_at: between 0 and 1
oauth: {+refresh_token_lifetime: 0}  =>  oauth.refresh_token_lifetime: end at once
oauth: {+scope: "a \" b"}  =>  oauth.scope: no scope
oauth: {+refresh_at: 40}  =>  oauth.refresh_at: 40 is more than the whole; write 40%, or 0.4
upstream: {url: 'https://169.254.169.254'}  =>  upstream.url: credentials of the machine
upstream: {url: 'https://[::ffff:169.254.169.254]'}  =>  upstream.url: credentials of the machine
upstream: {url: 'http://metadata.google.internal', allow_http: true}  =>  upstream.url: credentials of the
oauth: {+token_url: 'https://[fe80::1]/t'}  =>  oauth.token_url: credentials of the machine
upstream: {connect_timeout: 0}  =>  upstream.connect_timeout: no time
upstream: {user_agent: "a\nb"}  =>  upstream.user_agent: header field
upstream: {allow_methods: []}  =>  upstream.allow_methods: is empty
server: {listen: '0.0.0.0:8610'}  =>  server.listen: reached from other machines
server: {listen: ['127.0.0.1:1', 'proxy.internal:80']}  =>  server.listen: proxy.internal:80 can be reached
admin: {listen: '[::]:1'}  =>  admin.listen: there is no token
server: {listen: '127.0.0.1:8611'}  =>  admin.listen: which server.listen has already
server: {listen: ['127.0.0.1:1', '127.0.0.1:1']}  =>  server.listen: twice
server: {tls: {cert_file: secret}}  =>  server.tls.key_file: beside server.tls.cert_file
server: {tls: {key_file: secret}}  =>  server.tls.cert_file: beside server.tls.key_file
server: {tls: {client_ca_file: secret}}  =>  server.tls.client_ca_file: no certificate of the server's own
server: {limits: {header_bytes: 10}}  =>  server.limits.header_bytes: between 1KiB and 1MiB
server: {limits: {idle_timeout: 0}}  =>  server.limits.idle_timeout: no time
server: {allowed_hosts: []}  =>  server.allowed_hosts: is empty
admin: {allowed_hosts: []}  =>  admin.allowed_hosts: is empty
server: {unix_peers: [nobody-of-that-name]}  =>  server.unix_peers: neither a user nor a group
state: {directory: x} ;; cache: {directory: x}  =>  cache.directory: folder of state.directory
cache: {max_size: 4MiB}  =>  cache.max_size: less than 8MiB
cache: {max_size: 8MiB, max_entry_size: 9MiB}  =>  cache.max_entry_size: cache.max_size (8MiB); write 8MiB or less
cache: {max_entry_size: 0}  =>  cache.max_entry_size: between 1 byte
routes: [{name: a, match: /x}, {name: a, match: /y}]  =>  routes[1].name: stands twice (first: c.yaml:2)
routes: [{name: a, match: /x, methods: []}]  =>  routes[0].methods: is empty
routes: [{name: a, match: /x, methods: [GET, PUT]}]  =>  routes[0].methods: lists PUT
routes: [{name: a, match: /x, override: true}]  =>  routes[0].override: no ttl
routes: [{name: a, match: /x, refresh_ahead: 1}]  =>  routes[0].refresh_ahead: every hit
store: {url: 'mysql://x'}  =>  store.url: redis://
store: {url: 'redis://[x'}  =>  store.url: redis://
tracing: {otlp_endpoint: 'http://u:planted@h:4318'}  =>  tracing.otlp_endpoint: holds a user name or password
tracing: {otlp_endpoint: 'http://h:4318/?key=planted'}  =>  tracing.otlp_endpoint: has a query
store: {url: 'redis://u:planted@h'}  =>  store.url: holds a password
store: {url: 'redis://h/0?password=planted'}  =>  store.url: holds a password
state: {previous_key_file: key}  =>  state.previous_key_file: without a key
alerts: {runway: {log: 10%}}  =>  alerts.runway: does not fall
alerts: {repeat: 0}  =>  alerts.repeat: without a pause
gateway: {record: a, replay: .}  =>  gateway.replay: beside gateway.record
state: {directory: s} ;; gateway: {record: s/tapes}  =>  gateway.record: is in state.directory, where passoproxy keeps files of its own; name another
cache: {directory: c} ;; gateway: {record: c}  =>  gateway.record: is in cache.directory
gateway: {record: secret/tapes}  =>  gateway.record: is no folder; name a folder, or one that can be made
gateway: {replay: secret}  =>  gateway.replay: is no folder; name a folder of recordings, or make one with gateway.record
gateway: {replay: nowhere}  =>  gateway.replay: is not there
oauth: {client_id: a, client_secret_file: nowhere}  =>  oauth.client_secret_file: is not there
oauth: {client_id: a, client_secret_file: open}  =>  oauth.client_secret_file: can be read by others (mode 0644)
oauth: {client_id: a, client_secret_file: empty}  =>  oauth.client_secret_file: is empty
oauth: {client_id: a, client_secret_file: .}  =>  oauth.client_secret_file: cannot be read
oauth: {client_id: a, client_secret_file: two}  =>  oauth.client_secret_file: more than one line
server: {tls: {cert_file: secret, key_file: open}}  =>  server.tls.key_file: can be read by others
server: {tls: {cert_file: secret, key_file: nope}}  =>  server.tls.key_file: is not there
upstream: {ca_file: nope.pem}  =>  upstream.ca_file: is not there
upstream: {ca_file: secret/x}  =>  upstream.ca_file: is not there
oauth: {+seed_file: open}  =>  oauth.seed_file: can be read by others (mode 0644)
state: {key: planted}  =>  state.key: 32 bytes in base64
state: {key_file: secret}  =>  state.key_file: 32 bytes in base64
upstream: {proxy_file: secret}  =>  upstream.proxy_file: URL of a proxy
alerts: {webhook_file: two}  =>  alerts.webhook_file: http or https URL
server: {client_keys: 'planted'}  =>  server.client_keys: line 1 is not 'name:key'
server: {client_keys_file: keys_twice}  =>  server.client_keys_file: names 'a' again
server: {client_keys_file: keys_none}  =>  server.client_keys_file: holds no 'name:key' line
oauth: planted  =>  oauth: a single value is not a mapping
upstream: {headers: planted}  =>  upstream.headers: is not a mapping of header fields
upstream: {headers: {Host: a}}  =>  upstream.headers: 'Host' is a field that the proxy sets itself
upstream: {headers: {authorization: planted}}  =>  upstream.headers: 'authorization' is a field that the proxy sets itself
upstream: {headers: {Transfer-Encoding: planted}}  =>  upstream.headers: 'Transfer-Encoding' is a field that the proxy sets itself
upstream: {headers: {'X Y': planted}}  =>  upstream.headers: 'X Y' is not the name of a header field
upstream: {headers: {X-A: "planted\nX-B: 1"}}  =>  upstream.headers: the value of 'X-A' cannot stand in a header field
upstream: {headers: {X-A: {path: planted}}}  =>  upstream.headers: the value of 'X-A' is a mapping without one key 'file'
upstream: {headers: {X-A: a, x-a: b}}  =>  upstream.headers: 'x-a' stands twice, in another case
"""

LINES = r"""
upstream: {max_concurency: 4}  =>  upstream.max_concurency: is not a known key; did you mean max_concurrency?
upstream: {listen: 4}  =>  upstream.listen: is not a known key; did you mean server.listen?
routes: [{match: /x}]  =>  routes[0].name: is missing; add 'name: ...'
upstream: {read_timeout: }  =>  upstream.read_timeout: is empty; give a value, or remove the line for the default
log: {level: trace}  =>  log.level: 'trace' is not known here; write debug, info, warning or error
log: {level: INFO}  =>  log.level: 'INFO' is not known here; did you mean info? Valid: debug, info, warning or error
oauth: {+scope: 5}  =>  oauth.scope: 5 is not text; put it into quotes
upstream: {user_agent: [a]}  =>  upstream.user_agent: a list is not text; write one text
cache: {shared: 'yes'}  =>  cache.shared: 'yes' is neither true nor false; write true or false, without quotes
upstream: {max_connections: '3'}  =>  upstream.max_connections: '3' is not a whole number; write digits without quotes
upstream: {max_connections: 2.5}  =>  upstream.max_connections: 2.5 is not a whole number; write digits without quotes
server: {workers: 0}  =>  server.workers: 0 is too small; write 1 or more
server: {workers: 999}  =>  server.workers: 999 is too large; write 256 or less
upstream: {allow_methods: GET}  =>  upstream.allow_methods: 'GET' is not a list; write [GET]
routes: {a: 1}  =>  routes: a mapping is not a list; write [a, b]
log: verbose  =>  log: a single value is not a mapping; indent its keys below it; valid here: level, format, access, query
server: {allowed_peers: [10.0.0.5/8]}  =>  server.allowed_peers[0]: '10.0.0.5/8' is no network: it has bits beyond the prefix; write 10.0.0.0/8
admin: {token: [planted]}  =>  admin.token: is not text; put the secret in quotes, or better in a file that the _file key names
alerts: {command: 5}  =>  alerts.command: 5 is not a command; write a path, or a list of program and arguments
oauth: {+lost_answer_replay: [5]}  =>  oauth.lost_answer_replay: a list is not known here; write never, once, always, or a grace period such as 30s
"""

RIGHT = r"""
upstream: {url: 'http://127.0.0.1:8620'}
upstream: {url: 'http://[::1]:8620'}
oauth: {+redirect_url: 'http://localhost:1/cb'}
oauth: {+redirect_url: 'https://proxy.example.com/oauth/callback'}
oauth: {+grant: static, static_token_file: secret, redirect_url: 'http://example.com'}
oauth: {client_id: a, client_auth: none}
CUSTOM oauth: {grant: client_credentials, token_url: https://a.example/t, client_id: 1, client_secret_file: secret}
server: {listen: '0.0.0.0:1', allowed_peers: [10.0.0.0/8]}
server: {listen: '0.0.0.0:1', client_keys_file: keys}
server: {listen: '0.0.0.0:1', tls: {cert_file: secret, key_file: secret, client_ca_file: secret}}
server: {listen: ['unix:/run/a', 'fd:b', 'localhost:0', '[::1]:0', '127.0.0.1:0']}
server: {listen: '127.0.0.1:0'} ;; admin: {listen: '127.0.0.1:0', probe_listen: '127.0.0.1:0'}
admin: {listen: '0.0.0.0:1', token_file: secret}
admin: {listen: off, allowed_hosts: []}
server: {unix_peers: [root, daemon, 1000]}
state: {key_file: key, previous_key_file: key}
oauth: {+seed_file: nowhere}
oauth: {+seed_file: secret}
cache: {max_size: 8MiB, max_entry_size: 8MiB, memory_size: 0}
store: {url: 'rediss://user@h:6380/0', password_file: secret}
routes: [{name: a, match: /x, methods: [POST, QUERY], ttl: 0}]
"""

WARNINGS = r"""
oauth: {client_id: your-client-id, client_secret_file: secret}  =>  placeholder oauth.client_id
oauth: {client_id: a, client_auth: none, pkce: false}  =>  public_client_without_pkce oauth.pkce
upstream: {max_connections: 2}  =>  fewer_connections upstream.max_connections
server: {listen: '0.0.0.0:1', trust_network: true}  =>  network_trusted server.trust_network
upstream: {allow_http: true, url: 'http://a.example'}  =>  http_allowed upstream.allow_http
routes: [{name: a, match: /x, ttl: 1h, override: true, cookies: pass}]  =>  override_with_cookies routes[0].override
alerts: {command: /nonexistent/tell}  =>  alert_command_missing alerts.command
alerts: {command: [nonexistent-tell, --now]}  =>  alert_command_missing alerts.command
alerts: {command: 'nonexistent-tell --now | cat'}  =>  alert_command_missing alerts.command
alerts: {command: '/bin/cat > /dev/null'}  =>  -
alerts: {command: 'cd / && cat'}  =>  -
alerts: {command: '"$TELL" now'}  =>  -
alerts: {command: [sh, -c, 'cat']}  =>  -
routes: [{name: a, match: /a/**}]  =>  route_stores_nothing routes[0].ttl
routes: [{name: a, match: /a/**, ttl: 1h}]  =>  -
routes: [{name: a, match: /a/**, purges: [b]}]  =>  -
cache: {mode: http} ;; routes: [{name: a, match: /a/**}]  =>  -
cache: {max_size: 8MiB}  =>  -
"""

VARIABLES = r"""
PASSOPROXY__UPSTREAM__URLL=x  =>  names no key; did you mean PASSOPROXY__UPSTREAM__URL?
PASSOPROXY__UPSTREM__URL=x  =>  names no key; did you mean PASSOPROXY__UPSTREAM__URL?
PASSOPROXY__LISTEN=x  =>  names no key; did you mean PASSOPROXY__SERVER__LISTEN?
PASSOPROXY__PROVIDR=x  =>  names no key; did you mean PASSOPROXY__PROVIDER?
PASSOPROXY__OAUTH__TOKEN-URL=x  =>  names no key; did you mean PASSOPROXY__OAUTH__TOKEN_URL?
PASSOPROXY__ROUTES__0__TTL=3  =>  names no key; set the whole list, as YAML, in PASSOPROXY__ROUTES
PASSOPROXY__LOG__ZZZ=3  =>  names no key; valid here: level, format, access, query
PASSOPROXY__ZZZ__ZZZ=3  =>  names no key; valid here: provider, upstream, oauth, server,
PASSOPROXY__LOG__LEVEL__ZZZ=3  =>  names no key; valid here: level, format, access, query
PASSOPROXY__SERVER=x  =>  server: a single value is not a mapping
PASSOPROXY__SERVER__LIMITS={hedder: 3}  =>  server.limits.hedder: is not a known key
PASSOPROXY__SERVER__LISTEN=[::1]:8610  =>  as in '"[::1]:8610"'
PASSOPROXY__OAUTH__CLIENT_ID=[x  =>  put the value into quotes of its own
PASSOPROXY__UPSTREAM__CONNECT_TIMEOUT=abc  =>  upstream.connect_timeout: 'abc' is not a duration
PASSOPROXY__UPSTREAM__CONNECT_TIMEOUT=  =>  upstream.connect_timeout: is empty
PASSOPROXY__SERVER={listen: [  =>  not valid YAML
"""


def rows(table: str) -> list[tuple[str, str]]:
    found = [row.partition("  =>  ") for row in table.strip().splitlines()]
    return [(text, said) for text, _, said in found]


def configuration(text: str) -> str:
    text = text.replace("CUSTOM", "provider: custom ;; upstream: {url: https://a.example} ;;").replace(" ;; ", "\n")
    text = text.replace(";; ", "\n").replace("{+", "{client_id: abc, client_secret_file: secret, ")
    return f"{text}\n" if "oauth:" in text else f"{LEAST}{text}\n"


@pytest.fixture
def folder(folder: Folder) -> Folder:
    folder.write("open", "x", 0o644)
    folder.write("empty", " \n")
    folder.write("two", "planted\nplanted\n")
    folder.write("key", base64.b64encode(bytes(32)))
    folder.write("keys", "# clients\n\napp: planted1\nother:planted:2\n")
    folder.write("keys_twice", "a:planted\na:planted\n")
    folder.write("keys_none", "# nobody\n")
    return folder


def test_one_fault_with_its_key_and_remedy(folder: Folder) -> None:
    for text, said in rows(FAULTS):
        key, _, part = said.partition(": ")
        (fault,) = folder.faults(configuration(text))
        assert (fault.key, part in f"{fault.problem}; {fault.remedy}") == (key, True), (text, str(fault))
        assert fault.remedy, text
        assert fault.where.startswith("c.yaml"), text


def test_the_whole_line(folder: Folder) -> None:
    for text, said in rows(LINES):
        line = 1 if "oauth:" in text else 2
        assert folder.fault(configuration(text)) == f"c.yaml:{line}: {said}"


def test_what_is_wrong_in_a_variable_names_it(folder: Folder) -> None:
    for text, said in rows(VARIABLES):
        name, _, value = text.partition("=")
        fault = folder.fault(LEAST, {name: value})
        assert fault.startswith(f"environment {name}: "), fault
        assert said in fault


def test_what_is_right_is_accepted(folder: Folder) -> None:
    for text in RIGHT.strip().splitlines():
        folder.load(configuration(text))


def test_what_works_and_deserves_a_look(folder: Folder) -> None:
    for text, said in rows(WARNINGS):
        found = folder.load(configuration(text)).warnings
        assert " ".join(f"{each.code} {each.key}" for each in found) == said.strip("-"), text
        assert all(str(each).startswith("c.yaml:") for each in found), text


def test_what_pydantic_says_in_its_own_words_is_passed_on_with_the_value() -> None:
    class Odd(BaseModel):
        scope: date

    with pytest.raises(ValidationError) as raised:
        Odd.model_validate({"scope": "soon"})
    error = ValidationError.from_exception_data(
        "Settings", [{"type": "date_type", "loc": ("oauth", "scope"), "input": raised.value.errors()[0]["input"]}]
    )
    ((path, fault),) = explain(error, Layer()).items()
    assert (fault.key, path) == ("oauth.scope", ("oauth", "scope"))
    assert fault.problem == "'soon' is not valid here: input should be a valid date"


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
        configuration("oauth: {+static_token_file: nowhere}"),
        "oauth: {grant: static, static_token_file: secret, client_secret_file: nowhere}\n",
    ):
        folder.load(text)


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter"])
def test_traces_need_their_library(folder: Folder, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    text = LEAST + "tracing: {otlp_endpoint: 'http://h:4318'}\n"
    pytest.importorskip("opentelemetry.exporter.otlp.proto.common")
    folder.load(text)
    for each in [each for each in sys.modules if each.startswith(missing)]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, missing, None)
    assert folder.fault(text) == (
        f"c.yaml:2: tracing.otlp_endpoint: needs the opentelemetry-sdk library; run: {sys.executable} -m pip install "
        "'opentelemetry-sdk>=1.45' 'opentelemetry-exporter-otlp-proto-common>=1.45'"
    )
    folder.load(text, secrets=False)  # a command that only talks to a daemon


def test_a_shared_store_needs_its_library(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LEAST + "store: {url: 'redis://h'}\n"
    folder.load(text)
    monkeypatch.setitem(sys.modules, "redis", None)
    assert folder.fault(text) == (
        f"c.yaml:2: store.url: needs the redis library; run: {sys.executable} -m pip install 'redis>=8'"
    )
    folder.load(text, secrets=False)  # a command that only talks to a daemon
