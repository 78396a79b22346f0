"""The whole way from files and environment to settings or faults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passoproxy.config import keys
from passoproxy.config.load import load
from passoproxy.config.secrets import FileSecret
from passoproxy.config.settings import DEFAULT_LISTEN, Settings
from passoproxy.config.types import TcpAddress
from passoproxy.errors import ConfigurationError
from tests.config.writing import LEAST, SECRET, Folder, text_of


def test_the_least_gives_defaults_and_preset(folder: Folder) -> None:
    loaded = folder.load()
    assert loaded.settings.upstream.url == "https://api.passolution.eu"
    assert loaded.settings.oauth.token_url == "https://web.passolution.eu/oauth/token"
    assert loaded.settings.oauth.lost_answer_replay == "always"
    assert loaded.settings.server.listen == DEFAULT_LISTEN
    assert loaded.settings.upstream.read_timeout == 30.0
    assert loaded.settings.state.folder == folder.path / ".local/state/passoproxy"
    assert loaded.settings.cache.folder == folder.path / ".cache/passoproxy"
    assert text_of(loaded.secrets.client_secret) == SECRET
    assert loaded.warnings == ()
    assert loaded.path == Path("c.yaml")
    assert SECRET not in repr(loaded) + repr(loaded.settings)


def test_later_layers_win_and_every_value_tells_its_source(folder: Folder) -> None:
    loaded = folder.load(
        LEAST + "upstream:\n  read_timeout: 10s\n  connect_timeout: 7s\n",
        {
            "PASSOPROXY__UPSTREAM__READ_TIMEOUT": "20s",
            "STATE_DIRECTORY": "/var/lib/a:/var/lib/b",
            "XDG_CACHE_HOME": "/cache",
        },
    )
    assert loaded.settings.upstream.read_timeout == 20.0
    assert loaded.settings.upstream.connect_timeout == 7.0
    assert loaded.settings.state.folder == Path("/var/lib/a")
    assert loaded.settings.cache.folder == Path("/cache/passoproxy")
    expected = {
        "provider": "default",
        "upstream.url": "preset passolution",
        "upstream.read_timeout": "environment PASSOPROXY__UPSTREAM__READ_TIMEOUT",
        "upstream.connect_timeout": "c.yaml:4",
        "upstream.queue_timeout": "default",
        "oauth.client_id": "c.yaml:1",
        "state.directory": "environment STATE_DIRECTORY",
        "cache.directory": "environment XDG_CACHE_HOME",
        "routes[0].name": "preset passolution",
        "routes[0].ttl": "default",
    }
    assert {key: loaded.sources[key] for key in expected} == expected
    assert loaded.is_default("upstream.queue_timeout")
    assert not loaded.is_default("upstream.read_timeout")


def test_sections_may_be_empty_and_nulls_that_say_nothing_keep_the_preset(folder: Folder) -> None:
    loaded = folder.load(
        "oauth: {client_id: 12, client_secret_file: secret, lost_answer_replay: null}\nserver:\nroutes:\nlog: {}\n"
    )
    assert loaded.settings.oauth.client_id == "12"
    assert loaded.settings.oauth.lost_answer_replay == "always"
    assert loaded.settings.routes
    assert loaded.sources["oauth.lost_answer_replay"] == "preset passolution"


def test_custom_has_no_preset(folder: Folder) -> None:
    loaded = folder.load(
        "provider: custom\nupstream: {url: https://a.example/}\noauth: {grant: static, static_token_file: secret}\n"
    )
    assert loaded.settings.upstream.url == "https://a.example"
    assert loaded.settings.oauth.lost_answer_replay == "once"
    assert loaded.settings.routes == ()
    assert text_of(loaded.secrets.static_token) == SECRET
    assert loaded.secrets.client_secret is None


def test_own_routes_come_first_and_replace_those_of_their_name(folder: Folder) -> None:
    preset = [route.name for route in folder.load().settings.routes]
    loaded = folder.load(LEAST + "routes:\n  - {name: mine, match: /x/**}\n  - {name: countries, match: /y}\n")
    assert [route.name for route in loaded.settings.routes] == [
        "mine",
        "countries",
        *(name for name in preset if name != "countries"),
    ]
    assert loaded.settings.routes[1].ttl is None
    assert loaded.sources["routes[1].match"] == "c.yaml:4"
    assert loaded.sources["routes[2].match"] == "preset passolution"


@pytest.mark.parametrize("name", ["[a]", "{a: b}", "[[]]", "7"])
def test_a_name_may_be_written_as_anything(folder: Folder, name: str) -> None:
    fault = folder.fault(LEAST + f"routes: [{{name: {name}, match: /x}}]\n")
    assert fault.startswith("c.yaml:2: routes[0].name: ")


def test_a_route_of_the_file_that_is_none_lies_below_those_of_the_environment(folder: Folder) -> None:
    environ = {"PASSOPROXY__ROUTES": "[{name: first, match: /z}]"}
    (fault,) = folder.faults(LEAST + "routes: [5]\n", environ)
    assert str(fault).startswith("c.yaml:2: routes[1]: a single value is not a mapping")


def test_routes_of_the_environment_come_before_those_of_the_file(folder: Folder) -> None:
    loaded = folder.load(
        LEAST + "routes: [{name: mine, match: /x}]\n", {"PASSOPROXY__ROUTES": "[{name: first, match: /z, ttl: 5}]"}
    )
    assert [route.name for route in loaded.settings.routes][:2] == ["first", "mine"]
    assert loaded.sources["routes[0].ttl"] == "environment PASSOPROXY__ROUTES"
    assert loaded.sources["routes[1].name"] == "c.yaml:2"


def test_file_names_are_relative_to_the_file_and_those_of_the_environment_to_the_folder(tmp_path: Path) -> None:
    inner = Folder(tmp_path / "etc" if (tmp_path / "etc").mkdir() is None else tmp_path)
    inner.write("c.yaml", LEAST + "state: {directory: state}\ncache: {directory: ~/c}\n")
    (tmp_path / "token").write_text("x")
    (tmp_path / "token").chmod(0o600)
    loaded = load(Path("etc/c.yaml"), {"HOME": "/home/me", "PASSOPROXY__ADMIN__TOKEN_FILE": "token"}, tmp_path)
    assert loaded.settings.state.folder == tmp_path / "etc/state"
    assert loaded.settings.cache.folder == Path("/home/me/c")
    assert loaded.settings.admin.token_file == tmp_path / "token"


def test_the_file_is_looked_for_in_the_order_of_the_contract(tmp_path: Path) -> None:
    xdg = tmp_path / "xdg"
    (xdg / "passoproxy").mkdir(parents=True)
    here = tmp_path / "here"
    here.mkdir()
    for place, size in (
        (xdg / "passoproxy/config.yaml", 11),
        (here / "config.yaml", 12),
        (tmp_path / "env.yaml", 13),
        (tmp_path / "named.yaml", 14),
    ):
        place.write_text(f"oauth: {{client_id: a, client_auth: none}}\nupstream: {{max_connections: {size}}}\n")
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(xdg)}

    def seen(path: Path | None, more: dict[str, str], cwd: Path) -> int:
        return load(path, {**environ, **more}, cwd).settings.upstream.max_connections

    assert seen(tmp_path / "named.yaml", {"PASSOPROXY_CONFIG": str(tmp_path / "env.yaml")}, here) == 14
    assert seen(None, {"PASSOPROXY_CONFIG": str(tmp_path / "env.yaml")}, here) == 13
    assert seen(None, {}, here) == 12
    assert seen(None, {}, tmp_path) == 11


def test_without_a_file_defaults_and_environment_count(tmp_path: Path) -> None:
    environ = {
        "HOME": str(tmp_path),
        "PASSOPROXY__OAUTH__CLIENT_ID": "a",
        "PASSOPROXY__OAUTH__CLIENT_SECRET": "b #c: d",
    }
    loaded = load(None, environ, tmp_path)
    assert loaded.path is None
    assert text_of(loaded.secrets.client_secret) == "b #c: d"


def test_without_anything_it_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="passoproxy config init") as raised:
        load(None, {"HOME": str(tmp_path)}, tmp_path)
    assert {fault.key for fault in raised.value.faults} == {"oauth.client_id", "oauth.client_secret_file"}


def test_without_a_home_the_folders_must_be_told(folder: Folder) -> None:
    folder.write("c.yaml", LEAST)
    for home in ({}, {"HOME": "/"}, {"HOME": "relative", "XDG_STATE_HOME": "relative"}):
        with pytest.raises(ConfigurationError) as raised:
            load(Path("c.yaml"), home, folder.path)
        assert {fault.key for fault in raised.value.faults} == {"state.directory", "cache.directory"}
    loaded = load(Path("c.yaml"), {"STATE_DIRECTORY": "/s", "CACHE_DIRECTORY": "/c"}, folder.path)
    assert (loaded.settings.state.folder, loaded.settings.cache.folder) == (Path("/s"), Path("/c"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nowhere.yaml",
            "nowhere.yaml: is not there; name the right file, or write one with: passoproxy config init nowhere.yaml",
        ),
        (".", ".: is a folder; name the file in it"),
        ("secret/x", "secret/x: cannot be read: Not a directory; name a readable file"),
        ("fifo", "fifo: is not a regular file; name a YAML file"),
        ("a\0b", "a\0b: cannot be read: not a valid path; name a readable file"),
        ("list", "list:1: is not a mapping of keys; begin with a line such as 'provider: passolution'"),
    ],
)
def test_a_file_that_cannot_be_used_is_the_only_fault(folder: Folder, name: str, said: str) -> None:
    os.mkfifo(folder.path / "fifo")
    folder.write("list", "- a\n")
    for path, environ in ((Path(name), {}), (None, {"PASSOPROXY_CONFIG": name})):
        with pytest.raises(ConfigurationError) as raised:
            load(path, {"HOME": "/h", **environ}, folder.path)
        assert str(raised.value) == said


def test_a_file_that_may_not_be_read_says_so(folder: Folder) -> None:
    folder.write("c.yaml", LEAST, 0o000)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom passoproxy.config.load import load\nfrom passoproxy.errors import ConfigurationError\n"
        "from passoproxy.config import validate\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: load(Path(sys.argv[1]), {'HOME': '/h'})\nexcept ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path / "c.yaml")], capture_output=True, text=True, timeout=30
    )
    assert (
        done.stdout.strip()
        == f"{folder.path}/c.yaml: cannot be read: permission denied; make it readable for the user that runs passoproxy"
    )


def test_every_fault_is_told_together_with_its_place(folder: Folder) -> None:
    faults = folder.faults(
        "oauth:\n  client_id: a\n  client_secret_file: nowhere\n  refresh_at: 2\n"
        "upstream:\n  max_concurency: 4\n  connect_timeout: 5 parsecs\n"
        "log: {level: loud}\nlog: {}\n"
        "cache: {max_size: 1MiB}\n"
        "routes:\n  - {name: a, match: x}\n  - {name: b, match: /y, override: true}\n",
        {"PASSOPROXY__SERVER__WORKERZ": "3", "PASSOPROXY__SERVER__LIMITS": "{connections: 0}"},
    )
    assert {(fault.where, fault.key) for fault in faults} == {
        ("c.yaml:9", "log"),
        ("c.yaml:4", "oauth.refresh_at"),
        ("c.yaml:6", "upstream.max_concurency"),
        ("c.yaml:7", "upstream.connect_timeout"),
        ("c.yaml:8", "log.level"),
        ("c.yaml:3", "oauth.client_secret_file"),
        ("c.yaml:10", "cache.max_size"),
        ("c.yaml:12", "routes[0].match"),
        ("c.yaml:13", "routes[1].override"),
        ("environment PASSOPROXY__SERVER__WORKERZ", ""),
        ("environment PASSOPROXY__SERVER__LIMITS", "server.limits.connections"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "oauth: {client_idd: abc, client_secret_file: secret}\n",
        "oauth: {client_id: [a], client_secret_file: secret}\n",
        "oauth: {client_id: !x a, client_secret_file: secret}\n",
        "provider: costum\n" + LEAST,
        LEAST + "cache: 5\n",
        LEAST + "server: [x]\n",
        LEAST + "routes: [{name: a, match: /x, override: true, tll: 1h}]\n",
        LEAST + "admin: {listen: '0.0.0.0:1', token_fil: secret}\n",
    ],
)
def test_what_only_follows_from_a_fault_is_not_told_beside_it(folder: Folder, text: str) -> None:
    assert len(folder.faults(text)) == 1


def test_a_route_that_is_no_mapping_keeps_the_numbers_of_the_others(folder: Folder) -> None:
    faults = folder.faults(LEAST + "routes:\n  - 5\n  - {name: b, match: /y, override: true}\n")
    assert [(fault.where, fault.key) for fault in faults] == [
        ("c.yaml:3", "routes[0]"),
        ("c.yaml:4", "routes[1].override"),
    ]


def test_a_secret_is_given_one_way_in_one_place(folder: Folder) -> None:
    said = folder.fault("oauth: {client_id: a, client_secret: planted, client_secret_file: secret}\n")
    assert said == "c.yaml:1: oauth.client_secret: is given beside oauth.client_secret_file; keep one of the two"


def test_a_secret_of_a_higher_layer_replaces_both_ways_of_the_lower(folder: Folder) -> None:
    loaded = folder.load(LEAST, {"PASSOPROXY__OAUTH__CLIENT_SECRET": "other"})
    assert text_of(loaded.secrets.client_secret) == "other"
    assert loaded.settings.oauth.client_secret_file is None
    folder.write("second", "second")
    loaded = folder.load(
        "oauth: {client_id: a, client_secret: first}\n", {"PASSOPROXY__OAUTH__CLIENT_SECRET_FILE": "second"}
    )
    assert text_of(loaded.secrets.client_secret) == "second"


def test_a_credential_stands_for_the_default_and_yields_to_what_is_named(folder: Folder) -> None:
    credentials = folder.path / "credentials"
    credentials.mkdir()
    for name in ("client_secret", "admin_token"):
        # as systemd shows files with an access list
        (credentials / name).write_text(f"from {name}")
        (credentials / name).chmod(0o444)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    for text in (
        "oauth: {client_id: a}\n",
        "oauth: {client_id: a, client_secret_file: /etc/passoproxy/client_secret}\n",
    ):
        loaded = folder.load(text, environ)
        assert text_of(loaded.secrets.client_secret) == "from client_secret"
        assert loaded.sources["oauth.client_secret_file"] == "credential client_secret"
        assert text_of(loaded.secrets.admin_token) == "from admin_token"
        assert loaded.warnings == ()
    loaded = folder.load(LEAST, environ)
    assert text_of(loaded.secrets.client_secret) == SECRET


def test_proxy_env_written_out_does_not_stand_against_proxy_file(folder: Folder) -> None:
    folder.write("proxy", "http://user:planted@proxy.internal:3128\n")
    loaded = folder.load(LEAST + "upstream: {proxy: env, proxy_file: proxy}\n")
    assert text_of(loaded.secrets.upstream_proxy) == "http://user:planted@proxy.internal:3128"
    assert "oauth" not in folder.fault(LEAST + "upstream: {proxy: none, proxy_file: proxy}\n")


def test_without_secrets_no_file_but_the_configuration_is_looked_at(folder: Folder) -> None:
    loaded = folder.load(
        "oauth: {client_id: a, client_secret_file: nowhere}\nupstream: {ca_file: nowhere.pem}\n", secrets=False
    )
    assert isinstance(loaded.secrets.client_secret, FileSecret)
    with pytest.raises(ConfigurationError, match="nowhere"):
        loaded.secrets.client_secret()


def test_every_secret_has_its_reader(folder: Folder) -> None:
    folder.write("key", "A" * 43 + "=")
    folder.write("keys", "app:k1\n")
    folder.write("url", "https://hooks.example.com/T0/planted")
    loaded = folder.load(
        LEAST
        + "server: {client_keys_file: keys}\nadmin: {token: tok}\nstate: {key_file: key, previous_key_file: key}\n"
        + "store: {url: redis://h, password_file: secret}\nalerts: {webhook_file: url}\n"
    )
    secrets = loaded.secrets
    found = [
        secrets.client_keys,
        secrets.admin_token,
        secrets.state_key,
        secrets.previous_state_key,
        secrets.store_password,
        secrets.alerts_webhook,
    ]
    assert [each() for each in found if each is not None] == [
        "app:k1",
        "tok",
        "A" * 43 + "=",
        "A" * 43 + "=",
        SECRET,
        "https://hooks.example.com/T0/planted",
    ]
    assert "planted" not in repr(loaded)


_KEYS = sorted(path for path, key in keys.catalogue().items() if "routes" not in path)


def _typo(path: tuple[str, ...], place: int, letter: str) -> str:
    name = path[-1]
    return name[: place % len(name)] + letter + name[place % len(name) + 1 :]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_KEYS), st.integers(0, 30), st.sampled_from("xyzq_0"))
def test_a_typo_in_any_key_is_told_with_that_key(
    folder: Folder, path: tuple[str, ...], place: int, letter: str
) -> None:
    wrong = _typo(path, place, letter)
    section, text = keys.children(path[:-1]), f"{wrong}: 1\n"
    if wrong in section:
        return
    for depth, name in enumerate(reversed(path[:-1])):
        text = f"{name}:\n" + re.sub("(?m)^", " ", text).rstrip(" ")
        assert depth < 3
    faults = folder.faults(text)
    key = ".".join((*path[:-1], wrong))
    assert [fault for fault in faults if fault.key == key and "known key" in fault.problem and fault.remedy]


_WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_KEYS), _WRONG)
def test_no_value_of_any_key_ends_in_anything_but_faults(folder: Folder, path: tuple[str, ...], value: object) -> None:
    import yaml

    tree: object = value
    for name in reversed(path):
        tree = {name: tree}
    text = yaml.safe_dump(tree, allow_unicode=True)
    outcome: Settings | ConfigurationError
    try:
        outcome = folder.load(text).settings
    except ConfigurationError as error:
        outcome = error
    assert isinstance(outcome, Settings) or all(fault.problem for fault in outcome.faults)


def test_addresses_come_parsed(folder: Folder) -> None:
    loaded = folder.load(LEAST + "server: {listen: 'localhost:0'}\nadmin: {listen: off}\n")
    assert loaded.settings.server.listen == (TcpAddress("localhost", 0),)
    assert loaded.settings.admin.listen == ()


def test_a_text_counts_in_the_place_of_the_file(folder: Folder) -> None:
    loaded = folder.load()
    assert loaded.text == LEAST.encode()
    assert "client_secret_file: secret" not in repr(loaded)
    folder.write("c.yaml", "nonsense: [")
    again = load(loaded.path, {"HOME": str(folder.path)}, folder.path, text=loaded.text)
    assert (again.settings, again.sources, again.text) == (loaded.settings, loaded.sources, loaded.text)


HEADERS = "upstream: {headers: %s}\n"


def test_fields_for_the_origin_come_from_texts_and_files(folder: Folder) -> None:
    folder.write("api_key", " planted-1\n")
    loaded = folder.load(LEAST + HEADERS % "{X-Api-Key: {file: api_key}, X-Tenant: 7}")
    assert {name: value() for name, value in loaded.secrets.upstream_headers.items()} == {
        "X-Api-Key": "planted-1",
        "X-Tenant": "7",
    }
    assert loaded.settings.plain()["upstream"]["headers"] == {
        "X-Api-Key": {"file": str(folder.path / "api_key")},
        "X-Tenant": "********",
    }


def test_the_file_of_a_field_is_looked_at(folder: Folder) -> None:
    folder.write("open", "planted", mode=0o644)
    folder.write("lines", "planted\nplanted")
    found = {
        str(fault)
        for fault in folder.faults(LEAST + HEADERS % "{A: {file: open}, B: {file: lines}, C: {file: nowhere}}")
    }
    assert len(found) == 3
    assert any("upstream.headers.A" in each and "can be read by others (mode 0644)" in each for each in found)
    assert any("upstream.headers.B" in each and "one line of printable ASCII" in each for each in found)
    assert any("upstream.headers.C" in each and "is not there" in each for each in found)


def test_recordings_need_none_of_an_accounts_secrets(folder: Folder) -> None:
    (folder.path / "tapes").mkdir()
    text = (
        "oauth: {client_id: abc, client_secret_file: gone, seed_file: gone}\nstate: {key_file: gone}\n"
        "upstream: {headers: {X-A: {file: gone}}, proxy_file: gone, ca_file: gone}\n"
        "store: {url: 'redis://h', password_file: gone}\nalerts: {command: gone, webhook_file: gone}\ngateway: {replay: tapes}\n"
    )
    loaded = folder.load(text)
    settings = loaded.settings
    assert (settings.oauth.grant, settings.oauth.token_url, settings.store.url) == ("static", None, None)
    assert (settings.upstream.headers, settings.alerts.command, loaded.warnings) == ({}, None, ())
    assert settings.upstream.url == "https://api.passolution.eu"
    assert {loaded.sources[key] for key in ("oauth.grant", "upstream.proxy")} == {"gateway.replay"}
    assert folder.load("gateway: {replay: tapes}\n").warnings == ()
