"""What old and small clients make of the proxy: each asks, posts JSON, asks again with conditions, and gets the same bytes from the cache.

curl, requests and fetch are in tests/journeys/test_clients.py.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import program
from tests.journeys.conftest import Stand

TARGET = "/api/v2/content/visa/json?lang=en&countries=TR&nat=DE"
POSTED = "/api/v2/content/all/html"
BODY = json.dumps(
    {"language": "en", "destinations": [{"destination": "TR", "type": "travel"}], "nationalities": ["DE"]}
)

# Each prints, for what it did, a line: a name, the status, Cache-Status, and the length of the body.
PERL_TINY = r"""
use HTTP::Tiny; my ($url, $posted, $body) = @ARGV; my $http = HTTP::Tiny->new(keep_alive => 1);
sub told {
    my ($name, $answer) = @_;
    print join("\t", $name, $answer->{status}, $answer->{headers}{"cache-status"} // "", length($answer->{content} // "")), "\n";
    $answer
}
my $first = told("get", $http->get($url)); told("get", $http->get($url));
told("conditional", $http->get($url, {headers => {"If-None-Match" => $first->{headers}{etag}}}));
for (1, 2) { told("post", $http->post($posted, {content => $body, headers => {"Content-Type" => "application/json"}})) }
"""
PERL_LWP = r"""
use LWP::UserAgent; use HTTP::Request; my ($url, $posted, $body) = @ARGV; my $http = LWP::UserAgent->new(keep_alive => 1);
sub told {
    my ($name, $answer) = @_;
    print join("\t", $name, $answer->code, scalar $answer->header("Cache-Status"), length $answer->decoded_content(charset => "none")), "\n";
    $answer
}
my $first = told("get", $http->get($url)); told("get", $http->get($url, "Accept-Encoding" => "gzip"));
told("conditional", $http->get($url, "If-None-Match" => scalar $first->header("ETag")));
for (1, 2) { told("post", $http->post($posted, "Content-Type" => "application/json", Content => $body)) }
"""
PHP = r"""
[$url, $posted, $body] = array_slice($argv, 1);
function told($name, $url, $how = []) {
    $text = file_get_contents($url, false, stream_context_create(["http" => $how + ["ignore_errors" => true]]));
    $told = ["cache-status" => "", "etag" => ""];
    foreach ($http_response_header as $line) {
        if (strpos($line, ":")) { [$field, $value] = explode(":", $line, 2); $told[strtolower($field)] = trim($value); }
    }
    echo implode("\t", [$name, explode(" ", $http_response_header[0])[1], $told["cache-status"], strlen($text)]), "\n";
    return $told;
}
$first = told("get", $url); told("get", $url, ["protocol_version" => "1.1", "header" => "Connection: close"]);
told("conditional", $url, ["header" => "If-None-Match: " . $first["etag"]]);
foreach ([1, 2] as $_) { told("post", $posted, ["method" => "POST", "header" => "Content-Type: application/json", "content" => $body]); }
"""
PYTHON = r"""
import sys, urllib.error, urllib.request
def told(name, url, **how):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, **how))
    except urllib.error.HTTPError as error:
        answer = error
    print(name, answer.status, answer.headers["Cache-Status"], len(answer.read()), sep="\t")
    return answer.headers
url, posted, body = sys.argv[1:]
first = told("get", url); told("get", url)
told("conditional", url, headers={"If-None-Match": first["ETag"]})
for _ in range(2):
    told("post", posted, data=body.encode(), headers={"Content-Type": "application/json"})
"""
BUSYBOX = r"""
url=$1 posted=$2 body=$3 busybox=$4
told() {
    name=$1; shift; rm -f answer; touch answer
    $busybox wget -S -O answer "$@" 2> head || true
    status=$(sed -n 's/^ *HTTP[^ ]* \([0-9][0-9]*\).*/\1/p' head)
    cache=$(sed -n 's/^ *[Cc]ache-[Ss]tatus: //p' head | tr -d '\r')
    printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$cache" "$(wc -c < answer)"
}
told get "$url"; told get "$url"
told conditional --header 'If-None-Match: *' "$url"
for _ in 1 2; do told post --header 'Content-Type: application/json' --post-data "$body" "$posted"; done
"""
WGET = BUSYBOX.replace("$busybox wget -S", "wget --no-config --tries=1 -S")
CURL_10 = (
    BUSYBOX.replace("$busybox wget -S -O answer", "curl -0 -sS -D head -o answer")
    .replace(" 2> head", "")
    .replace("--post-data", "--data-binary")
)


def perl(module: str, script: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        found = program("perl")
        if subprocess.run([found, f"-M{module}", "-e", "1"], check=False, capture_output=True).returncode:
            pytest.skip(f"{module} of Perl is not installed")
        return [found, "-e", script]

    return command


CLIENTS: dict[str, Callable[[], list[str]]] = {
    "HTTP::Tiny": perl("HTTP::Tiny", PERL_TINY),
    "LWP": perl("LWP", PERL_LWP),
    "PHP": lambda: [program("php"), "-r", PHP],
    "urllib": lambda: [sys.executable, "-c", PYTHON],
    "wget": lambda: ["sh", "-c", WGET, "sh"] if program("wget") else [],
    "busybox wget": lambda: ["sh", "-c", BUSYBOX, "sh"] if program("busybox") else [],
    "curl of HTTP/1.0": lambda: ["sh", "-c", CURL_10, "sh"] if program("curl") else [],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_it_gets_the_same_bytes_and_then_from_the_cache(shared_stand: Stand, tmp_path: Path, name: str) -> None:
    stand = shared_stand
    whole, posted = len(stand.get(TARGET).body), len(stand.post(POSTED, BODY).body)
    command = CLIENTS[name]()
    given = [stand.proxy + TARGET, stand.proxy + POSTED, BODY, shutil.which("busybox") or ""][
        : 4 if "sh" in command else 3
    ]
    done = subprocess.run(
        [*command, *given],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    expected = {"get": ("200", whole), "conditional": ("304", 0), "post": ("200", posted)}
    for each, status, cache_status, length in told:
        assert (status, int(length)) == expected[each], done.stdout
        # the wget of busybox shows no field of a 304
        assert "passoproxy; hit" in cache_status or (name, each) == ("busybox wget", "conditional")
    assert len(told) >= 5


def raw(target: str | tuple[str, int], request: bytes) -> bytes:
    """What comes on a connection of its own until it is closed; `target` is a port's address or a socket's path."""
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(target)
        connection.sendall(request)
        got = b""
        while data := connection.recv(65536):
            got += data
    return got


def test_over_a_unix_socket(stand: Stand) -> None:
    """By curl, and by the least that was ever a request: HTTP/1.0 without Host, as health checks and scripts send it."""
    path = str(stand.folder / "proxy.sock")
    stand.configure(server={"listen": [f"unix:{path}", f"127.0.0.1:{stand.port}"]})
    stand.begin()
    least = f"GET {TARGET} HTTP/1.0\r\n\r\n".encode()
    head, _, body = raw(path, least).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"chunked" not in head
    assert json.loads(body)
    again = raw(("127.0.0.1", stand.port), least)
    assert b"passoproxy; hit" in again
    assert again.partition(b"\r\n\r\n")[2] == body
    curl = [program("curl"), "-sS", "--unix-socket", path]
    answers = [subprocess.run([*curl, "-i", f"http://localhost{TARGET}"], capture_output=True, timeout=60).stdout]
    sent = ["-H", "Content-Type: application/json", "-d", BODY, f"http://localhost{POSTED}"]
    answers += [subprocess.run([*curl, "-i", *sent], capture_output=True, timeout=60).stdout for _ in range(2)]
    assert answers[0].partition(b"\r\n\r\n")[2] == body
    assert b"passoproxy; hit" in answers[0]
    assert b"passoproxy; hit" in answers[2]
    assert answers[1].partition(b"\r\n\r\n")[2] == answers[2].partition(b"\r\n\r\n")[2]
