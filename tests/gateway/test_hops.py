"""The two hops: what is recorded and what is not, which recording answers, and what a client is told that has none."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from passoproxy.core.cache.policy import CacheMode, KeyPolicy, RoutePolicy
from passoproxy.core.events import Warned
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import RouteTable
from passoproxy.errors import BodyBroken, Offline, OriginUnreachable, PathNotAllowed
from passoproxy.gateway import recorder as recording
from passoproxy.gateway.recorder import Recorder
from passoproxy.gateway.replay import Replay, ReplayExplainer
from passoproxy.ports import BytesBody, Request, Response, read_whole
from tests.fakes import BROKEN, ChunkedBody, FakeClock, RememberingObserver, ScriptedHop, Step, request, response

JSON = ("Content-Type", "application/json")
SECRET = "a-configured-secret"
REDACTOR = Redactor([SECRET])


class Tape:
    """A folder, a recorder that writes into it what its script answers, and a replay that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = RememberingObserver()
        self.hop = ScriptedHop()
        self.bearer: Bearer | None = None

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[Recorder]:
        made = Recorder(self.hop, self.folder, lambda: REDACTOR, self.told, lambda: self.bearer)
        try:
            yield made
        finally:
            await made.close()

    async def record(self, *exchanges: tuple[Request, Step]) -> None:
        async with self.recording() as made:
            for asked, step in exchanges:
                self.hop.script.append(step)
                answer = await made.send(asked)
                with contextlib.suppress(BodyBroken):
                    await read_whole(answer.body, 1 << 30)
                await answer.body.aclose()

    async def answer(self, asked: Request) -> Response:
        replay = Replay(self.folder, lambda: REDACTOR, FakeClock(), self.told)
        try:
            return await replay.send(asked)
        finally:
            await replay.close()

    async def refusal(self, asked: Request) -> str:
        with pytest.raises(Offline) as caught:
            await self.answer(asked)
        return caught.value.detail

    def texts(self) -> list[str]:
        return [each.read_text() for each in sorted(self.folder.rglob("*.yaml"))]

    def warned(self, code: str) -> list[Warned]:
        return [each for each in self.told.events if isinstance(each, Warned) and each.code == code]


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape(tmp_path)


def body_of(answer: Response) -> bytes:
    assert isinstance(answer.body, BytesBody)
    return answer.body.data


def good(text: str = "{}", *fields: tuple[str, str], status: int = 200) -> Response:
    return response(status, [JSON, *fields], text.encode())


# ---- recorded ------------------------------------------------------------------------------------------------------------


async def test_credentials_are_in_no_recording(tape: Tape) -> None:
    asked = request(
        "POST",
        f"/a?api%5Fkey=hush&lang=en&x={SECRET}",
        [
            JSON,
            ("Authorization", "Bearer hush"),
            ("Cookie", "a=hush"),
            ("X-Api-Key", "hush"),
            ("Accept-Language", "en"),
            ("User-Agent", "x"),
        ],
        json.dumps({"password": "hush", "lang": "en"}).encode(),
        policy=RoutePolicy(key=KeyPolicy(headers=("Authorization",))),
    )
    text = json.dumps({"access_token": "hush", "echo": f"Bearer {'hush1' * 5}", "known": SECRET, "code": "NO"})
    fields = [("Set-Cookie", "a=hush"), ("Vary", "Cookie, Authorization, Accept-Language"), ("Passoproxy-Runway", "1")]
    fields += [
        ("X-Access-Token", "hush" * 4),
        ("Location", "/?access%5Ftoken=hush"),
        ("X-Echo", SECRET),
        ("ETag", '"1"'),
        ("Repr-Digest", "x"),
        ("Age", "5"),
        ("Cache-Status", "a; hit"),
    ]
    await tape.record((asked, good(text, *fields)))
    (written,) = tape.texts()
    assert "hush" not in written
    assert SECRET not in written
    assert '"code": "NO"' in written
    for name in ("Passoproxy-Runway", "Repr-Digest", "Age", "Cache-Status", "User-Agent"):
        assert f"{name}:" not in written
    assert 'ETag: "W/\\"1\\""' in written  # of other bytes now
    assert "Accept-Language: en" in written
    assert (
        body_of(await tape.answer(asked))
        == text.replace("hush1" * 5, "***").replace("hush", "***").replace(SECRET, "***").encode()
    )


OPAQUE = "opaque/bearer+of-the-account"


@pytest.mark.parametrize(
    "shown",
    [
        OPAQUE,
        OPAQUE.replace("/", "\\/"),
        OPAQUE.replace("e", "\\u0065"),
        b64encode(f"Bearer {OPAQUE}".encode()).decode(),
    ],
)
@pytest.mark.parametrize("is_stored", [False, True])
async def test_an_origin_that_shows_the_request_shows_no_bearer(tape: Tape, shown: str, is_stored: bool) -> None:
    def echo(asked: Request) -> Response:
        asked.trail.bearer = None if is_stored else Bearer(OPAQUE, 1)
        return good(f'{{"seen": "{shown}", "number": 1.50}}', ("X-Seen", OPAQUE))

    tape.bearer = Bearer(OPAQUE, 1) if is_stored else None
    await tape.record((request(), echo))
    assert "***" in (written := tape.texts()[0])
    assert [each for each in (OPAQUE, shown, shown[12:-4]) if each in written] == []


async def test_an_origin_that_shows_a_clients_credentials_is_masked(tape: Tape) -> None:
    sent = [("Authorization", f"Basic {b64encode(b'me:hush-hush').decode()}"), ("Cookie", f"a=b; sid={'hush' * 4}")]
    text = json.dumps({"seen": [*map(list, sent), "hush-hush"]})
    await tape.record((request(fields=[*sent, ("X-Api-Key", "hushhush")]), good(text, ("X-Seen", "hushhush"))))
    assert "hush" not in tape.texts()[0]
    assert b64encode(b"me:hush-hush").decode() not in tape.texts()[0]


async def test_a_coded_request_is_recorded_and_found_plain(tape: Tape) -> None:
    plain = b'{"password": "hush", "a": 1}'
    asked = request("POST", "/a", [JSON, ("Content-Encoding", "gzip")], gzip.compress(plain))
    await tape.record((asked, good("[1]")))
    assert '"password": "***"' in tape.texts()[0]
    assert body_of(await tape.answer(asked)) == body_of(await tape.answer(request("POST", "/a", [JSON], plain)))
    broken = request("POST", "/a", [JSON, ("Content-Encoding", "gzip")], b"torn")
    assert "with another body" in await tape.refusal(broken)


async def test_the_second_recording_of_the_same_leaves_the_file_alone(tape: Tape) -> None:
    policy = RoutePolicy(volatile_fields=("meta.id",))
    texts = ['{"a": 1, "meta": {"id": 1}, "requestid": "x"}', '{"meta": {"id": 2}, "requestid": "y", "a": 1}']
    seen: list[os.stat_result] = []
    for number, text in enumerate(texts):
        date = ("Date", f"Sat, 28 Nov 2026 09:00:0{number} GMT")
        await tape.record((request(policy=policy), good(text, date)))
        (before,) = tape.folder.iterdir()
        seen = [*seen, before.stat()]
    assert len({(each.st_ino, each.st_mtime_ns) for each in seen}) == 1
    # a person names more, and gives the file another name
    (renamed := tape.folder / "mine.yaml").write_text(before.read_text().replace("[Date,", "[body.a, Date,"))
    before.unlink()
    await tape.record((request(policy=policy), good('{"a": 2, "meta": {}, "requestid": "z"}')))
    assert '"a": 1' in renamed.read_text()
    await tape.record((request(policy=policy), good('{"a": 2, "new": 1}')))
    assert list(tape.folder.iterdir()) == [renamed]
    assert '"new": 1' in renamed.read_text()
    assert "body.a" in renamed.read_text()


def coded(data: bytes, coding: str = "gzip") -> Response:
    return response(200, [JSON, ("Content-Encoding", coding), ("ETag", '"a"')], data)


@pytest.mark.parametrize(
    ("asked", "answer", "count"),
    [
        (request(), coded(gzip.compress(b'{"a":1}')), 1),
        (request("HEAD"), response(200, [("Content-Length", "7"), ("Content-Encoding", "gzip")]), 1),
        (request(), response(204), 1),
        (request(), good(status=404), 1),
        (request(), good(status=503), 1),
        (request(), response(200, [], ChunkedBody(b"a", b"b")), 1),
        (request(), response(200, [], ChunkedBody(b"a", BROKEN)), 0),
        (request(), good(status=304), 0),
        (request(), good(status=206), 0),
        (request(), coded(b"torn"), 0),
        (request(), coded(b"any", "deflate"), 0),
        (request("PUT", fields=[("Content-Encoding", "br, gzip")], body=b"any"), good(), 0),
        (request(), coded(gzip.compress(bytes(recording.LONGEST_BODY + 1))), 0),
        (request(), response(200, [], ChunkedBody(b"a", bytes(recording.LONGEST_BODY), b"b")), 0),
        (request("PUT", body=ChunkedBody(bytes(recording.LONGEST_BODY), b"a")), good(), 0),
        (request("PUT", body=ChunkedBody(b"a", b"b")), good(), 1),
    ],
)
async def test_what_is_recorded(tape: Tape, asked: Request, answer: Response, count: int) -> None:
    await tape.record((asked, answer))
    assert len(tape.texts()) == count
    if count and asked.head.method == "GET" and answer.head.fields.get("Content-Encoding"):
        assert "Content-Encoding" not in tape.texts()[0]
        assert body_of(await tape.answer(request())) == b'{"a":1}'


async def test_refusals_are_not_recorded_and_conditions_not_sent(tape: Tape) -> None:
    asked = request(fields=[("If-None-Match", '"a"'), ("Range", "bytes=0-1")])
    with pytest.raises(OriginUnreachable):
        await tape.record((asked, OriginUnreachable("away")))
    assert not list(tape.folder.iterdir())
    assert not tape.hop.seen[0].head.fields


async def test_a_client_that_leaves_early_leaves_no_recording(tape: Tape) -> None:
    async with tape.recording() as made:
        tape.hop.script.append(response(200, [], ChunkedBody(b"a", b"b")))
        answer = await made.send(request())
        await anext(answer.body)
        await answer.body.aclose()
    assert not tape.texts()


async def test_an_answer_that_ends_after_the_recorder_is_whole_and_not_recorded(tape: Tape) -> None:
    async with tape.recording() as made:
        tape.hop.script += [response(200, [], ChunkedBody(b"a", b"b")), good()]
        answer = await made.send(request())
    assert await read_whole(answer.body, 100) == b"ab"
    assert (await made.send(request("GET", "/b"))).head.status == 200
    assert tape.texts() == []


async def test_an_answer_of_the_moment_takes_no_place_and_gives_its_own(tape: Tape) -> None:
    for status, kept in ((503, 503), (429, 503), (200, 200), (500, 200), (401, 200), (404, 404)):
        await tape.record((request(), good(status=status)))
        assert f"status: {kept}" in tape.texts()[0]


async def test_head_needs_no_recording_beside_get(tape: Tape) -> None:
    await tape.record((request("HEAD"), good("")), (request(), good("[]")), (request("HEAD", "/b"), good("")))
    assert len(tape.texts()) == 3
    assert body_of(await tape.answer(request("HEAD"))) == b""
    await tape.record((request("GET", "/c"), good("[]")), (request("HEAD", "/c"), good("")))
    assert len(tape.texts()) == 4
    answer = await tape.answer(request("HEAD", "/c"))
    assert (body_of(answer), answer.head.fields["Content-Length"]) == (b"", "2")


async def test_personal_data_is_told_once(tape: Tape) -> None:
    text = '{"email": "a@example.com"}'
    await tape.record((request(), good(text)), (request(), good(text)))
    (warned,) = tape.warned("recording_personal")
    assert "response.body.email" in warned.detail
    assert "look before you share it" in tape.texts()[0]


async def test_a_disk_that_takes_nothing_is_a_warning_and_no_clients_matter(
    tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("passoproxy.gateway.folder.os.replace", full)
        await tape.record((request(), good()), (request("GET", "/b"), good()))
    assert [each.over for each in tape.warned("recording_failed")] == [False]
    assert not list(tape.folder.iterdir())  # nothing begun is left


async def test_what_waits_for_the_disk_or_its_end_is_bounded(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_WAITING", 30_000)  # three with their heads
    async with tape.recording() as made:
        stuck = threading.Event()
        made._thread.submit(stuck.wait)
        slow = []
        for target, size in (("/a", 0), ("/b", 1000), ("/c", 9000)):
            tape.hop.script.append(response(200, [], ChunkedBody(bytes(size), b"end")))
            slow.append((await made.send(request("GET", target))).body)
            await anext(slow[-1])
        tape.hop.script.append(response(204))
        await made.send(request("PUT", "/long", body=ChunkedBody(bytes(4000))))
        assert isinstance(tape.hop.seen[-1].body, ChunkedBody)  # as it came
        await slow[1].aclose()
        await read_whole(slow[0], 100)
        for target in ("/d", "/e", "/f"):
            tape.hop.script.append(response(204))
            await made.send(request("DELETE", target))
        stuck.set()
    skipped = [each.detail.partition(" is")[0] for each in tape.warned("recording_skipped")]
    assert skipped == ["GET /c", "PUT /long", "DELETE /f"]
    assert sorted(re.findall("target: (.*)", "".join(tape.texts()))) == ["/a", "/d", "/e"]
    assert made._waiting == 0


async def test_a_file_that_could_not_be_read_again_is_not_written(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passoproxy.gateway.folder.LONGEST_FILE", 300)
    await tape.record((request(), good("[]")), (request("GET", "/b"), good(json.dumps("x" * 300))))
    assert len(tape.texts()) == 1
    assert "its file would be longer than" in tape.warned("recording_skipped")[0].detail


async def test_long_answers_that_were_recorded_are_in_no_memory(tape: Tape) -> None:
    files: list[int] = []
    async with tape.recording() as made:
        for letter in "xxy":
            tape.hop.script.append(good(json.dumps({"a": letter * 9000})))
            await made.send(request())
            await made.look()  # behind it, in the recorder's thread
            files += [each.stat().st_ino for each in tape.folder.iterdir()]
        assert [each.recording and each.recording.body for each in made._folder._known.values()] == [b""]
    assert files[0] == files[1]  # which said the same
    assert b"yyy" in body_of(await tape.answer(request()))


async def test_a_file_whose_request_a_person_changed_is_not_overwritten(tape: Tape) -> None:
    for answer in ("[1]", "[2]", "[3]"):
        await tape.record((request("GET", "/a"), good(answer)))
        (file,) = (each for each in tape.folder.iterdir() if "target: /a\n" in each.read_text())
        file.write_text(file.read_text().replace("/a", f"/mine{answer[1]}"))
    assert [body_of(await tape.answer(request("GET", f"/mine{n}"))) for n in (1, 2, 3)] == [b"[1]", b"[2]", b"[3]"]


async def test_recording_goes_on_after_a_fault(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    tape.hop.script = [coded(b"torn"), good(), good(), good()]
    async with tape.recording() as made:
        with monkeypatch.context() as patched:
            patched.setattr("passoproxy.gateway.folder.tempfile.mkstemp", lambda **_: os.open("/nowhere/at/all", 0))
            for target in ("/torn?pass%77ord=hush", "/a", "/b"):
                await made.send(request("GET", target))
            await made.look()  # behind them, in the recorder's thread
        await made.send(request())
    (skipped,) = tape.warned("recording_skipped")
    assert skipped.detail.startswith("GET /torn?pass%77ord=*** is not recorded: ")
    assert [each.over for each in tape.warned("recording_failed")] == [False, True]
    assert len(tape.texts()) == 1


async def test_what_a_killed_process_began_is_removed_and_never_read(tape: Tape) -> None:
    (tape.folder / "sub").mkdir()  # with a file that a person has moved there
    old, new = tape.folder / "sub" / ".passoproxy-old.yaml", tape.folder / ".passoproxy-new"
    for each in (old, new):
        each.write_text("request: {method: GET, target: /}\nresponse: {sta")
    os.utime(old, (time.time() - 3600,) * 2)
    await tape.record((request("GET", "/b"), good()))
    assert (old.exists(), new.exists()) == (False, True)
    assert "GET / is not recorded" in await tape.refusal(request())
    assert not tape.warned("recording_invalid")


async def test_it_says_what_it_does(tape: Tape) -> None:
    await tape.record((request(), good()))
    async with tape.recording() as made:
        await made.look()
        assert made.shown() == {"mode": "record", "directory": str(tape.folder), "recordings": 1}


# ---- replayed ------------------------------------------------------------------------------------------------------------


def write(
    folder: Path, name: str, method: str, target: str, more: str = "", answer: str = "status: 200, text: a"
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f"request: {{method: {method}, target: '{target}'{more}}}\nresponse: {{{answer}}}\n")


async def test_an_answer_is_a_hit_with_what_was_recorded(tape: Tape) -> None:
    write(tape.folder, "sub/a.yml", "GET", "/a", answer="status: 200, headers: {Date: x, ETag: '\"1\"'}, text: abc")
    answer = await tape.answer(request("GET", "/a", [("Range", "bytes=1-")]))
    assert (answer.head.status, body_of(answer)) == (206, b"bc")
    fields = answer.head.fields
    assert (fields["Date"], fields["Age"], fields["Cache-Status"]) == ("x", "0", "passoproxy; hit")
    assert (await tape.answer(request("GET", "/a", [("If-None-Match", '"1"')]))).head.status == 304


MULTIPART = b"--%b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--%b--\r\n"


def upload(boundary: str) -> Request:
    data = MULTIPART.replace(b"%b", boundary.encode())
    return request("POST", "/up", [("Content-Type", f"multipart/form-data; boundary={boundary}")], data)


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        (request("GET", "/a?x=1&y=2"), request("GET", "/a?y=2&x=1")),
        (request("POST", "/a", [JSON], b'{"a": 1, "b": 2.0}'), request("POST", "/a", [JSON], b'{"b":2,"a":1}')),
        (request("PATCH", "/a", [JSON], b'{"a": 1}'), request("PATCH", "/a", [JSON], b' {"a":1}')),
        (request("POST", "/a", [JSON], b'{"password": "x"}'), request("POST", "/a", [JSON], b'{"password": "y"}')),
        (request("GET", "/a?access_token=one"), request("GET", "/a?access_token=other")),
        (request("POST", "/a", [], b"\xff\x00"), request("POST", "/a", [], b"\xff\x00")),
        (upload("one"), upload("another")),
    ],
)
async def test_equal_questions_have_one_answer(tape: Tape, recorded: Request, asked: Request) -> None:
    await tape.record((recorded, good("[1]")))
    assert body_of(await tape.answer(asked)) == b"[1]"


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        (request("GET", "/a?code=DE"), request("GET", "/a?code=FR")),
        (request("POST", "/a", [JSON], b"[1]"), request("POST", "/a", [JSON], b"[2]")),
        (request("POST", "/a"), request("PUT", "/a")),
        (request("GET", "/a"), request("GET", "/A")),
        (upload("one"), request("POST", "/up", [("Content-Type", "multipart/form-data; boundary=one")], b"--one--")),
    ],
)
async def test_other_questions_have_none(tape: Tape, recorded: Request, asked: Request) -> None:
    await tape.record((recorded, good("[1]")))
    assert "nearest: " in await tape.refusal(asked)


async def test_variants_are_told_apart_by_what_they_vary_by(tape: Tape) -> None:
    policy = RoutePolicy(key=KeyPolicy(headers=("X-Mandator",)))

    def asked(language: str, mandator: str) -> Request:
        return request("GET", "/a", [("Accept-Language", language), ("X-Mandator", mandator)], policy=policy)

    vary = ("Vary", "Accept-Language, Accept-Encoding")
    questions = [("de", "1"), ("en", "1"), ("en", "2")]
    await tape.record(*((asked(*each), good(json.dumps(each), vary)) for each in questions))
    for each in questions:
        assert json.loads(body_of(await tape.answer(asked(*each)))) == list(each)
    # no variant is for it: better another than none
    assert json.loads(body_of(await tape.answer(asked("fr", "2")))) == ["en", "2"]
    assert "is not recorded" in await tape.refusal(asked("fr", "3"))


async def test_the_nearest_are_named_and_no_credential(tape: Tape) -> None:
    write(tape.folder, "a.yaml", "GET", "/countries?limit=10")
    write(tape.folder, "b.yaml", "POST", "/countries")
    write(tape.folder, "c.yaml", "GET", "/cities")
    write(tape.folder, "d.yaml", "GET", "/contries?limit=10")
    write(tape.folder, "e.yaml", "PUT", "/else")
    said = await tape.refusal(request("GET", "/countries?limit=11&password=hush"))
    near = "GET /countries?limit=10 (a.yaml); POST /countries (b.yaml); GET /contries?limit=10 (d.yaml)"
    assert said == f"GET /countries?limit=11&password=*** is not recorded in {tape.folder}; nearest: {near}"
    assert "POST /countries (b.yaml, with another body)" in await tape.refusal(
        request("POST", "/countries", [JSON], b"[]")
    )
    assert "nearest: PUT /else (e.yaml)" in await tape.refusal(request("PUT", "/something"))
    assert "nearest: GET /cities (c.yaml)" in await tape.refusal(request("DELETE", "/citys"))


async def test_an_empty_folder_says_how_to_fill_it(tape: Tape) -> None:
    assert "run the application once with gateway.record" in await tape.refusal(request())
    longer = request("PUT", body=ChunkedBody(bytes(recording.LONGEST_BODY), b"a"))
    assert "which no recording has" in await tape.refusal(longer)


async def test_files_are_read_again_when_they_change(tape: Tape) -> None:
    write(tape.folder, "a.yaml", "GET", "/a")
    replay = Replay(tape.folder, lambda: REDACTOR, FakeClock(), tape.told)

    async def said(target: str = "/a") -> str:
        try:
            return body_of(await replay.send(request("GET", target))).decode()
        except Offline as refused:
            return refused.detail

    assert await said() == "a"
    write(tape.folder, "a.yaml", "GET", "/a", answer="status: 200, text: other")
    assert await said() == "other"
    write(tape.folder, "a.yaml", "GET", "/a", answer="status: 200, texts: a")
    assert "cannot be used: a.yaml:2: response.texts: is no key" in await said()
    assert "a file cannot be used: a.yaml:2" in await said("/b")
    assert [each.over for each in tape.warned("recording_invalid")] == [False]
    assert replay.shown()["invalid"] == [
        str(tape.warned("recording_invalid")[0].detail).removeprefix(f"{tape.folder}/")
    ]
    write(tape.folder, "a.yaml", "GET", "/b")
    assert await said("/b") == "a"
    assert "is not recorded" in await said()
    assert [each.over for each in tape.warned("recording_invalid")] == [False, True]
    write(tape.folder, "b.yaml", "GET", "/b", answer="status: 200, text: second")
    assert await said("/b") == "a"
    assert "is that of a.yaml, which answers" in tape.warned("recording_invalid")[-1].detail
    (tape.folder / "a.yaml").write_text("request: {method: GET, target: /b}\nresponse: {status: 200}\nvolatil: []\n")
    (tape.folder / "b.yaml").rename(tape.folder / "b")
    assert "its recording in" in (refused := await said("/b"))
    assert "cannot be used: a.yaml:3: volatil: is no key" in refused
    (tape.folder / "b").rename(tape.folder / "b.yaml")
    (tape.folder / "a.yaml").write_text("request: [")
    assert await said("/b") == "second"
    (tape.folder / "dangling.yaml").symlink_to("nowhere")
    (tape.folder / "folder.yaml").mkdir()
    os.mkfifo(tape.folder / "fifo.yaml")
    await replay.look()
    assert replay.shown()["recordings"] == 1
    await replay.close()


async def test_a_file_that_cannot_be_read_is_named(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tape.folder, "a.yaml", "GET", "/a")
    write(tape.folder, "b.yaml", "GET", "/b")
    monkeypatch.setattr("passoproxy.gateway.folder.LONGEST_FILE", 5)
    assert "longer than" in await tape.refusal(request("GET", "/a"))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("passoproxy.gateway.folder.open", refused, raising=False)
    assert "a.yaml: cannot be read: Permission denied" in await tape.refusal(request("GET", "/a"))


async def test_names_that_are_no_utf_8_can_be_told(tape: Tape) -> None:
    for name, text in (
        (b"\xff.yaml", "broken: ["),
        (b"\xfe.yaml", "request: {method: GET, target: /a}\nresponse: {status: 200, text: a}"),
    ):
        Path(os.fsdecode(os.fsencode(tape.folder) + b"/" + name)).write_text(text)
    assert body_of(await tape.answer(request("GET", "/a"))) == b"a"
    refusal = await tape.refusal(request("GET", "/b"))
    assert "nearest: GET /a (\\xfe.yaml)" in refusal
    assert "\\xff.yaml:2: is not YAML" in refusal
    (warned,) = {each.detail for each in tape.warned("recording_invalid")}
    assert f"{refusal}{warned}".isascii()


async def test_many_clients_ask_at_once(tape: Tape) -> None:
    exchanges: Iterable[tuple[Request, Step]] = [(request("GET", f"/{n}"), good(f"[{n}]")) for n in range(20)]
    async with tape.recording() as made:
        for asked, answer in exchanges:
            tape.hop.script = [answer]
            await made.send(asked)
    replay = Replay(tape.folder, lambda: REDACTOR, FakeClock(), tape.told)
    answers = await asyncio.gather(*(replay.send(request("GET", f"/{n % 20}")) for n in range(100)))
    assert [body_of(each) for each in answers] == [b"[%d]" % (n % 20) for n in range(100)]
    await replay.close()


# ---- explained ----------------------------------------------------------------------------------------------------------


async def test_explain_names_the_recording_or_says_why_there_is_none(tape: Tape) -> None:
    write(tape.folder, "a.yaml", "GET", "/a")
    replay = Replay(tape.folder, lambda: REDACTOR, FakeClock(), tape.told)

    def admits(head: RequestHead) -> None:
        if head.path == "/denied":
            raise PathNotAllowed("upstream.deny_paths")

    table = RouteTable((), CacheMode())
    explainer = ReplayExplainer(replay, None, None, lambda: table, admits, FakeClock())  # type: ignore[arg-type]
    told = [await explainer.explain(RequestHead("GET", target), b"") for target in ("/a", "/b", "/denied")]
    assert [each.outcome for each in told] == ["hit", "miss", "pass"]
    assert [each.cache_status for each in told] == ["passoproxy; hit", "passoproxy; fwd=bypass; detail=offline", ""]
    reasons = [each.reasons[0] for each in told]
    assert reasons[0] == f"recorded in {tape.folder}/a.yaml (gateway.replay)"
    assert reasons[1].startswith("504 offline: GET /b is not recorded")
    assert reasons[2] == "refused with 403 path_not_allowed: upstream.deny_paths"
    await replay.close()
