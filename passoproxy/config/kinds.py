"""The kinds of value that a key can have, as annotated types: how each is read, printed back and described in the JSON Schema."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema

from passoproxy.config import addresses, units, values


def _schema(types: list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": types[0] if len(types) == 1 else types, **more})


def _show_word_or_duration(value: str | float) -> str:
    return value if isinstance(value, str) else units.show_duration(value)


def _word_or_duration(*words: str) -> WithJsonSchema:
    written = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"}
    return WithJsonSchema({"anyOf": [{"enum": list(words)}, {"type": "number", "minimum": 0}, written]})


Duration = Annotated[
    float,
    BeforeValidator(units.duration),
    PlainSerializer(units.show_duration, when_used="json"),
    _schema(
        ["string", "number"],
        pattern=r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)?$",
        minimum=0,
        examples=["30s", "15m", "6h", "7d"],
    ),
]
Size = Annotated[
    int,
    BeforeValidator(units.size),
    PlainSerializer(units.show_size, when_used="json"),
    _schema(
        ["string", "integer"], pattern=r"^[0-9]+(\.[0-9]+)? ?([KMGT]iB|B)?$", minimum=0, examples=["64MiB", "1GiB"]
    ),
]
Share = Annotated[
    float,
    BeforeValidator(units.share),
    PlainSerializer(lambda found: int(found) if found == int(found) else found, when_used="json"),
    _schema(["string", "number"], pattern=r"^[0-9]+(\.[0-9]+)? ?%?$", minimum=0, maximum=1, examples=["55%", 0.55]),
]
Percentage = Annotated[Share, PlainSerializer(units.show_share, when_used="json")]
Text = Annotated[
    str, BeforeValidator(values.plain_text), AfterValidator(values.nonempty), _schema(["string", "integer"])
]
Secret = Annotated[
    SecretStr,
    BeforeValidator(values.secret),
    PlainSerializer(lambda _: values.MASK),
    _schema(["string", "integer"], writeOnly=True),
]
FilePath = Annotated[
    Path, BeforeValidator(values.file_path), PlainSerializer(str, when_used="json"), _schema(["string"])
]
Url = Annotated[str, BeforeValidator(values.http_url), _schema(["string"], format="uri")]
AuthorityUrl = Annotated[str, BeforeValidator(values.authority_url), _schema(["string"], format="uri")]
_one_or_list: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
}
_show_listen = PlainSerializer(lambda found: [str(each) for each in found] or "off", when_used="json")
Listen = Annotated[
    tuple[addresses.Address, ...], BeforeValidator(values.listen), _show_listen, WithJsonSchema(_one_or_list)
]
AdminListen = Annotated[
    tuple[addresses.Address, ...],
    BeforeValidator(values.admin_listen),
    _show_listen,
    WithJsonSchema({"anyOf": [*_one_or_list["anyOf"], {"const": False}, {"type": "null"}]}),
]
NetworkEntry = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    BeforeValidator(values.network),
    PlainSerializer(str, when_used="json"),
    _schema(["string"]),
]
HostEntry = Annotated[str, BeforeValidator(values.host_entry)]
OriginEntry = Annotated[str, BeforeValidator(values.origin_entry)]
Pattern = Annotated[str, BeforeValidator(values.pattern), _schema(["string"], pattern="^/")]
Method = Annotated[str, BeforeValidator(values.method)]
FieldName = Annotated[str, BeforeValidator(values.field_name)]
HeaderFields = Annotated[
    dict[
        str,
        Annotated[
            SecretStr | Path,
            PlainSerializer(lambda each: {"file": str(each)} if isinstance(each, Path) else values.MASK),
        ],
    ],
    BeforeValidator(values.request_headers),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": ["string", "integer"]},
                    {
                        "type": "object",
                        "properties": {"file": {"type": "string"}},
                        "required": ["file"],
                        "additionalProperties": False,
                    },
                ]
            },
        }
    ),
]
BasePath = Annotated[str, BeforeValidator(values.base_path), _schema(["string"], pattern="^(/[A-Za-z0-9._~-]+)*$")]
Label = Annotated[str, BeforeValidator(values.label), _schema(["string"], pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Name = Annotated[str, AfterValidator(values.nonempty)]
AsTuple = BeforeValidator(values.as_tuple)
Count = Annotated[int, Field(ge=1, le=1_000_000)]

_worded = PlainSerializer(_show_word_or_duration, when_used="json")
Replay = Annotated[
    Literal["never", "once", "always"] | float,
    BeforeValidator(values.replay),
    _worded,
    _word_or_duration("never", "once", "always"),
]
RefreshLifetime = Annotated[
    Literal["same", "unknown"] | float,
    BeforeValidator(values.refresh_lifetime),
    _worded,
    _word_or_duration("same", "unknown"),
]
TlsVersion = Annotated[
    Literal["1.2", "1.3"], BeforeValidator(values.tls_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})
]
Command = Annotated[
    tuple[str, ...],
    BeforeValidator(values.command_line),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
ProxyChoice = Annotated[str, BeforeValidator(values.proxy), _schema(["string"])]
SecretUrl = Annotated[
    SecretStr,
    BeforeValidator(values.secret_url),
    PlainSerializer(lambda found: values.authority_of(found.get_secret_value())),
    _schema(["string"], format="uri", writeOnly=True),
]
