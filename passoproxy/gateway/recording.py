"""One recording, and its file: YAML for the heads, with each body as a block of text that a person reads and edits.

No value of the file is typed by YAML: `code: NO` is a text. JSON bodies stand pretty-printed, and `style` says how they were written, so that
the bytes that came are the bytes that are served. Bodies that are no text are base64.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

import yaml

from passoproxy.core.cache.etag import is_json
from passoproxy.core.cache.key import without
from passoproxy.core.http.content_coding import compressible, content_coding
from passoproxy.core.http.messages import BODILESS, Fields, RequestHead, ResponseHead, fields_of
from passoproxy.core.http.request_line import parse_target
from passoproxy.core.http.syntax import is_token
from passoproxy.core.redaction import Redactor
from passoproxy.errors import BadRequest, Fault, PassoproxyError
from passoproxy.proxy.codecs import decoded, known
from passoproxy.values import dataclass

LONGEST_BODY = 2 * 1024 * 1024
"""Bytes of a body that is recorded; a longer one is not."""

LONGEST_FILE = 8 * LONGEST_BODY
_LONGEST_PRETTY = 3 * LONGEST_BODY

_HEAD = "# A recording of passoproxy: edit it freely, it is read again when it changes (docs/gateway.md).\n"
_BODIES = ("json", "text", "base64")
_KEYS = {
    "": ("request", "response", "volatile"),
    "request": ("method", "target", "headers", "style", *_BODIES),
    "response": ("status", "headers", "style", *_BODIES),
}
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Recording:
    """What was asked (its head has the fields that tell it from like requests), and what was answered, in no content coding.

    `volatile` names what says nothing when it changes: header fields, and members of a JSON body as `body.` and their dotted path.
    """

    request: RequestHead
    asked: bytes
    head: ResponseHead
    body: bytes
    volatile: tuple[str, ...] = ()

    def says_the_same(self, other: Recording) -> bool:
        """Whether both differ in nothing but what one of them calls volatile."""
        volatile = {*self.volatile, *other.volatile}
        return self._lasting(volatile) == other._lasting(volatile)

    def _lasting(self, volatile: Iterable[str]) -> object:
        gone = {name.lower() for name in volatile}
        fields = sorted((name.lower(), text) for name, text in self.head.fields.items() if name.lower() not in gone)
        paths = [name.removeprefix("body.") for name in volatile if name.startswith("body.")]
        try:
            content: object = json.dumps(without(json.loads(self.body), paths), sort_keys=True)
        except (ValueError, RecursionError):
            content = self.body
        return self.head.status, fields, content


class InvalidRecording(PassoproxyError):
    """A file that is no recording. `fault` says what, where and what to do; `request` is what it would answer, None if that is not known."""

    def __init__(self, fault: Fault, request: tuple[RequestHead, bytes] | None = None) -> None:
        super().__init__(str(fault))
        self.fault, self.request = fault, request


# ---- written -----------------------------------------------------------------------------------------------------------


def printed(recording: Recording, personal: Iterable[str] = ()) -> str:
    """The file's text; `personal` names what looks like personal data."""
    lines = [_HEAD]
    if names := list(personal):
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        lines.append(f"# May hold personal data ({', '.join(names[:8])}{more}): look before you share it.\n")
    request, head = recording.request, recording.head
    lines.append(f"request:\n  method: {_scalar(request.method)}\n  target: {_scalar(request.target)}\n")
    lines += [*_fields(request.fields), *_body(recording.asked, request.fields)]
    lines.append(f"response:\n  status: {head.status}\n")
    lines += [*_fields(head.fields), *_body(recording.body, head.fields)]
    if recording.volatile:
        lines.append(f"volatile: [{', '.join(map(_member, recording.volatile))}]\n")
    return "".join(lines)


def _fields(fields: Fields) -> Iterator[str]:
    if not fields:
        return
    yield "  headers:\n"
    for name in dict.fromkeys(each.lower() for each in fields):
        values = fields.getall(name)
        shown = next(each for each in fields if each.lower() == name)
        said = _scalar(values[0]) if len(values) == 1 else f"[{', '.join(map(_member, values))}]"
        yield f"    {_scalar(shown)}: {said}\n"


def _body(body: bytes, fields: Fields) -> Iterator[str]:
    if not body:
        return
    try:
        text = body.decode()
    except UnicodeDecodeError:
        yield from _block("base64", base64.encodebytes(body).decode())
        return
    style = _style_of(text) if is_json(fields) or text[0] in "{[" else None
    if style is not None and (pretty := _pretty(json.loads(text))):
        if style:
            yield f"  style: {_scalar(', '.join(style))}\n"
        yield from _block("json", _UNPRINTABLE.sub(_escaped_for_json, pretty) + "\n")
    elif _is_found(_UNPRINTABLE, text) or not text.strip("\n"):
        yield f"  text: {_quoted(text)}\n"
    else:
        yield from _block("text", text)


def _pretty(value: object) -> str:
    """Laid out to be read; '' for what is so deep that most of it would be spaces."""
    parts, size = list[str](), 0
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        parts.append(part)
        if (size := size + len(part)) > _LONGEST_PRETTY:
            return ""
    return "".join(parts)


def _block(name: str, text: str) -> Iterator[str]:
    """A literal block, exact to the last line end."""
    chomping = "-" if not text.endswith("\n") else "+" if text.endswith("\n\n") else ""
    indentation = "2" if text[0] in " \n\t" else ""
    yield f"  {name}: |{indentation}{chomping}\n"
    for line in text.removesuffix("\n").split("\n"):
        yield f"    {line}\n" if line else "\n"


_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML takes in no block as it is: control characters, other line ends, surrogates."""


def _is_found(pattern: re.Pattern[str], text: str) -> bool:
    """Whether it is in the text, in steps between which other threads have their turn."""
    return any(pattern.search(text, at, at + 2 * _STEP) for at in range(0, len(text), _STEP))


_STEP = 64 * 1024
_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z/][A-Za-z0-9 ,;=/._+()&%?:*~@'-]*(?<![ :])", re.IGNORECASE
)


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and ": " not in text else _quoted(text)


def _member(text: str) -> str:
    """As an item of a list."""
    return _quoted(text) if "," in text else _scalar(text)


def _quoted(text: str) -> str:
    if _HALF.search(text):  # bytes that are no UTF-8, which YAML has no escape for
        return f"{_LATIN} {_quoted(text.encode('utf-8', 'surrogateescape').decode('latin-1'))}"
    return f'"{_TO_ESCAPE.sub(_escaped, text)}"'


_HALF, _LATIN = re.compile("[\udc80-\udcff]"), "!latin-1"
_TO_ESCAPE = re.compile(f'["\\\\\t\n]|{_UNPRINTABLE.pattern}')


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in '"\\':
        return f"\\{char}"
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or f"\\u{ord(char):04x}"


def _escaped_for_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


# ---- how JSON was written ------------------------------------------------------------------------------------------------

_LAYOUTS = {"compact": (None, (",", ":")), "spaced": (None, (", ", ": "))}
_INDENT = re.compile(r"indent ([1-8])")
_WORDS = ("compact", "spaced", "indent 2", "ascii", "slashes", "newline")


def _style_of(text: str) -> tuple[str, ...] | None:
    """The words of `style` with which the value gives this very text again; None if there are none."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        found = re.match(r"[\[{]\n( {1,8})\S", text)
        layouts = [f"indent {len(found[1])}"] if found else ["", "spaced"]
        more = [
            word
            for word, sign in (("ascii", "\\u"), ("slashes", "\\/"))
            if sign in text and (sign == "\\/" or text.isascii())
        ]
        if text.endswith("\n"):
            more.append("newline")
        styles = [(*filter(None, (layout,)), *more) for layout in layouts]
        return next((style for style in styles if _styled(value, style) == text), None)
    except (ValueError, RecursionError):
        return None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(word)


def _styled(value: object, style: Iterable[str]) -> str:
    """Raises ValueError for a word that is no style."""
    indent, separators = _LAYOUTS["compact"]
    words = set()
    for word in style:
        if word in _LAYOUTS:
            indent, separators = _LAYOUTS[word]
        elif found := _INDENT.fullmatch(word):
            indent, separators = int(found[1]), (",", ": ")
        elif word not in _WORDS:
            raise ValueError(word)
        words.add(word)
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii="ascii" in words)
    if "slashes" in words:
        text = text.replace("/", "\\/")
    return text + "\n" if "newline" in words else text


def masked_value(name: str, text: str, redactor: Redactor) -> str:
    """The value of a header field without what is surely a credential; the last word of its name tells too (`X-Access-Token`)."""
    before, mark, query = text.partition("?")  # of an address
    shown = f"{before}?{redactor.parameters(query)}" if mark else text
    return str(redactor.json(shown, name.rpartition("-")[2]))


def masked_body(body: bytes, fields: Fields, redactor: Redactor) -> bytes:
    """A body without what is surely a credential: of JSON and forms by their members, of other text by patterns. Other bytes stay as they are."""
    kind = fields.get("Content-Type", "")
    is_form = kind.lower().startswith("application/x-www-form-urlencoded")
    if (boundary := boundary_of(kind)) is not None:
        return boundary.join(_masked_part(part, redactor) for part in body.split(boundary))
    is_text = is_form or compressible(kind)
    charset: str = json.detect_encoding(body[:4]) if is_text else "utf-8"  # by its first bytes, of any text
    try:
        text = body.decode(charset)
    except UnicodeDecodeError:
        if not is_text:
            return body
        text, charset = body.decode("latin-1"), "latin-1"
    clean = redactor.parameters(text) if is_form else _masked_text(text, redactor)
    return body if clean == text else clean.encode(charset, "surrogatepass")


def boundary_of(kind: str) -> bytes | None:
    """What stands between the parts of a body of this `Content-Type`; None unless it is multipart."""
    found = re.match(r'multipart/.*;\s*boundary="?([^";]{1,70})', kind, re.IGNORECASE)
    return None if found is None else f"--{found[1]}".encode("utf-8", "surrogateescape")


def _masked_part(part: bytes, redactor: Redactor) -> bytes:
    """A part of a form by its name; one that is no text as it is."""
    head, end, content = part.partition(b"\r\n\r\n")
    found = re.search(rb'\bname="?([^";\r\n]*)', head, re.IGNORECASE)
    try:
        text = (value := content.removesuffix(b"\r\n")).decode()
    except UnicodeDecodeError:
        return part
    clean = _masked_text(redactor.parameter(found[1].decode("latin-1") if found else "", text), redactor)
    return b"%b%b%b%b" % (head, end, clean.encode(), content[len(value) :])


def _masked_text(text: str, redactor: Redactor) -> str:
    if (style := _style_of(text) if text[:1] in ("{", "[") else None) is None:
        text = redactor.content(text)
    try:
        value = json.loads(text)
        clean = redactor.json(value)
    except (ValueError, RecursionError):
        return text if style is None else redactor.content(text)
    if clean == value:
        return text
    return json.dumps(clean) if style is None else _styled(clean, style)


def uncoded(body: bytes, fields: Fields) -> bytes:
    """A body without its content coding. Raises BodyBroken if it is not in that coding, ValueError for one that is not known, or too long."""
    coding = content_coding(fields)
    if not coding or not body:
        return body
    if (name := known(coding)) is None:
        raise ValueError(f"its content coding cannot be undone ({coding[:40]})")
    if (plain := decoded(body, name, LONGEST_BODY)) is None:
        raise ValueError(f"its content is longer than {LONGEST_BODY} bytes")
    return plain


# ---- read --------------------------------------------------------------------------------------------------------------


def read(raw: bytes, name: str) -> Recording:
    """The recording in a file's bytes. Raises InvalidRecording, which names the file as `name`."""
    return _Reader(name).read(raw)


class _Reader:
    """Reads one file, known as `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._request: tuple[RequestHead, bytes] | None = None
        self._odd: tuple[yaml.Node, str, str, str] | None = None  # what is wrong with the outermost keys

    def _fault(self, at: yaml.Node | int | None, key: str, problem: str, remedy: str) -> InvalidRecording:
        """The fault of a node, or of a line that counts from 0; None if there is none to name."""
        line = at.start_mark.line if isinstance(at, yaml.Node) else at
        where = self._name if line is None else f"{self._name}:{line + 1}"
        key, problem = (said.encode(errors="backslashreplace").decode() for said in (key, problem))
        return InvalidRecording(Fault(where, key, problem, remedy), self._request)

    def read(self, raw: bytes) -> Recording:
        try:
            root = yaml.compose(raw.decode(), Loader=_LOADER)
        except UnicodeDecodeError:
            raise self._fault(None, "", "is not UTF-8", "save it as UTF-8, with other bytes as base64") from None
        except yaml.MarkedYAMLError as error:
            line = None if error.problem_mark is None else error.problem_mark.line
            raise self._fault(line, "", f"is not YAML: {error.problem}", "mend that line") from None
        except yaml.YAMLError as error:
            said = str(getattr(error, "reason", "") or "cannot be read").splitlines()[0]
            raise self._fault(None, "", f"is not YAML: {said}", "take that character out") from None
        found = self._mapping(root, "")
        if "request" in found:  # before what else is wrong, which is then told to those who ask for it
            self._request = self._asked(found["request"])
        if self._odd is not None:
            raise self._fault(*self._odd)
        self._needed(found, "request", root)
        assert self._request is not None
        response = self._mapping(self._needed(found, "response", root), "response")
        answered = self._answered(response, found["response"])
        body = self._body(response, "response")
        if body and answered.status in BODILESS:
            raise self._fault(response["status"], "response", f"a {answered.status} has no body", "take the body out")
        return Recording(*self._request, answered, body, self._volatile(found))

    def _asked(self, node: yaml.Node) -> tuple[RequestHead, bytes]:
        request = self._mapping(node, "request")
        method = self._text(self._needed(request, "method", node, "request."), "request.method")
        target = self._text(self._needed(request, "target", node, "request."), "request.target")
        if not is_token(method):
            raise self._fault(request["method"], "request.method", "is no method", "write GET, POST, …")
        try:
            parse_target(method, target)
        except BadRequest as error:
            problem = f"is no target: {error.detail}"
            raise self._fault(request["target"], "request.target", problem, "write path and query") from None
        return RequestHead(method, target, self._fields(request, "request")), self._body(request, "request")

    def _answered(self, response: dict[str, yaml.Node], node: yaml.Node) -> ResponseHead:
        status = self._needed(response, "status", node, "response.")
        text, fields = self._text(status, "response.status"), self._fields(response, "response")
        if not re.fullmatch("[2-5][0-9][0-9]", text):
            raise self._fault(status, "response.status", f"{text[:20]!r} is no status", "write for example 200")
        if known(content_coding(fields)) is not None:
            at = "response.headers.Content-Encoding"
            raise self._fault(response["headers"], at, "the body stands here in no coding", "take the line out")
        framing = _FRAMING
        if self._request is not None and self._request[0].method == "HEAD":
            framing = framing - {"content-length"}  # of a body that is not there
        kept = [(name, text) for name, text in fields.items() if name.lower() not in framing]
        return ResponseHead(int(text), fields_of(kept))

    def _volatile(self, found: dict[str, yaml.Node]) -> tuple[str, ...]:
        if (node := found.get("volatile")) is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            raise self._fault(node, "volatile", "is no list", "write [Date, body.requestid]")
        return tuple(self._text(each, "volatile") for each in node.value)

    def _needed(self, found: dict[str, yaml.Node], key: str, at: yaml.Node | None, before: str = "") -> yaml.Node:
        if key not in found:
            raise self._fault(at, f"{before}{key}", "is missing", "see docs/gateway.md for a whole example")
        return found[key]

    def _mapping(self, node: yaml.Node | None, key: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._fault(node or 0, key, "is no mapping of keys", f"write {', '.join(_KEYS[key])} as keys of it")
        found: dict[str, yaml.Node] = {}
        for name, inner in node.value:
            said = self._text(name, key)
            at = f"{key}.{said}".strip(".")
            odd = None
            if said not in _KEYS[key]:
                odd = name, at, "is no key", f"keys are {', '.join(_KEYS[key])}"
            elif said in found:
                odd = name, at, "stands twice", "keep one of the two"
            if odd is not None and key:
                raise self._fault(*odd)
            self._odd = self._odd or odd
            found.setdefault(said, inner)
        return found

    def _text(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._fault(node, key, "is no text", "write one value, with quotes if need be")
        text = str(node.value)
        if node.tag != _LATIN:
            return text
        try:
            return text.encode("latin-1").decode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self._fault(node, key, "is not latin-1", f"take {_LATIN} out") from None

    def _fields(self, message: dict[str, yaml.Node], key: str) -> Fields:
        if (node := message.get("headers")) is None:
            return fields_of()
        if not isinstance(node, yaml.MappingNode):
            raise self._fault(node, f"{key}.headers", "is no mapping", "write 'Name: value' lines")
        pairs = []
        for name, inner in node.value:
            said = self._text(name, f"{key}.headers")
            at = f"{key}.headers.{said}"
            for each in inner.value if isinstance(inner, yaml.SequenceNode) else [inner]:
                text = self._text(each, at)
                if not is_token(said) or re.search("[\0\r\n]", text):
                    raise self._fault(each, at, "is no header field", "write a name, and a value in one line")
                pairs.append((said, text))
        return fields_of(pairs)

    def _body(self, message: dict[str, yaml.Node], key: str) -> bytes:
        kind, *more = [kind for kind in _BODIES if kind in message] or [""]
        if more:
            raise self._fault(message[more[0]], f"{key}.{more[0]}", f"stands beside {kind}", "keep one of the two")
        if not kind:
            return b""
        node, at = message[kind], f"{key}.{kind}"
        if not isinstance(node, yaml.ScalarNode):
            remedy = f"write '{kind}: |' and the content below it, indented"
            raise self._fault(node, at, "is no block of text", remedy)
        if kind == "json":
            return self._json(message, node, key)
        text = str(node.value)
        if kind == "text":
            return text.encode()
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise self._fault(node, at, "is not base64", "encode the bytes anew, or write text: |") from None

    def _json(self, message: dict[str, yaml.Node], node: yaml.ScalarNode, key: str) -> bytes:
        at = f"{key}.json"
        try:
            value = json.loads(node.value)
        except json.JSONDecodeError as error:
            line = node.start_mark.line + (error.lineno if node.style in ("|", ">") else 0)
            problem = f"is not JSON: {error.msg} (column {error.colno})"
            raise self._fault(line, at, problem, "mend that line, or write it as text: |") from None
        except (ValueError, RecursionError):
            raise self._fault(node, at, "is JSON that cannot be read", "write it as text: |") from None
        style = self._text(message["style"], f"{key}.style") if "style" in message else ""
        try:
            return _styled(value, filter(None, map(str.strip, style.split(",")))).encode()
        except RecursionError:
            raise self._fault(node, at, "is JSON that cannot be read", "write it as text: |") from None
        except UnicodeEncodeError:
            raise self._fault(node, at, "has half a character (\\ud800 to \\udfff)", "add 'style: ascii'") from None
        except ValueError as error:
            problem = f"{error} is no style"
            raise self._fault(message["style"], f"{key}.style", problem, f"words are {', '.join(_WORDS)}") from None


# ---- what a person should look at ----------------------------------------------------------------------------------------

_PERSONAL_NAME = re.compile(
    r"birthda|dateofbirth|placeofbirth|birthplace|birth\Z|dob\Z|e?mail\Z|emailaddress|phone(?:number)?\Z|mobile(?:number)?\Z|firstname|lastname|surname|givenname|familyname|fullname|iban\Z|"
    r"passport(?:no|nr|num|number|id)\Z|(?:document|visa|id|identity|insurance|tax)(?:card)?(?:no|nr|number)\Z|mrz\Z|ssn\Z|street|postaladdress",
)
_PERSONAL_TEXT = re.compile(r"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z]{2,}|\bP[<A-Z][A-Z]{3}[A-Z]{1,39}<<")
"""An e-mail address; the first line of a passport's machine-readable zone."""


_LONGEST_PLACE = 200


def personal(recording: Recording) -> list[str]:
    """Where the recording has what looks like personal data, by the names of fields and by patterns; each place once."""
    found: dict[str, None] = {}
    if _PERSONAL_TEXT.search(recording.request.target.replace("%40", "@")):
        found["request.target"] = None
    for piece in recording.request.target.partition("?")[2].split("&"):
        name, _, value = piece.partition("=")
        if value and _is_personal(name):
            found[f"request.target {name}"] = None
    for at, body in (("request.body", recording.asked), ("response.body", recording.body)):
        try:
            _look(json.loads(body), at, "", found)
        except (ValueError, RecursionError):
            with contextlib.suppress(UnicodeDecodeError):
                if _is_found(_PERSONAL_TEXT, body.decode()):
                    found[at] = None
    # they stand in a line of a file, and in a warning
    return list(dict.fromkeys(_TO_ESCAPE.sub("?", at)[:_LONGEST_PLACE] for at in found))


def _look(value: object, at: str, name: str, found: dict[str, None]) -> None:
    if isinstance(value, dict):
        for member, inner in value.items():
            _look(inner, f"{at}.{member}"[:_LONGEST_PLACE], member, found)
    elif isinstance(value, list):
        for inner in value:
            _look(inner, at, name, found)
    elif value not in ("", None, True, False, "***") and (
        _is_personal(name) or (isinstance(value, str) and _PERSONAL_TEXT.search(value))
    ):
        found[at] = None


def _is_personal(name: str) -> bool:
    return bool(_PERSONAL_NAME.search(re.sub(r"[^a-z]", "", name.lower())))
