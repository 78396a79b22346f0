"""docs/configuration.md (from `make docs`), made from the settings' models and the comments of the example; a test compares it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from passoproxy.compose.reload import is_live
from passoproxy.config.describe import json_schema, texts
from passoproxy.config.keys import catalogue, dotted
from passoproxy.config.settings import RouteSettings, Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

HEAD = """\
# Configuration

Every key. [config.example.yaml](../config.example.yaml) is a file to start from. `passoproxy config check` finds the faults of yours,
`passoproxy config show` prints the values in effect and their sources. Editors complete and explain keys by the JSON Schema:
`passoproxy config schema > passoproxy.schema.json`, and `# yaml-language-server: $schema=passoproxy.schema.json` as the first line of the file.

- The file is the one of `--config`, else `$PASSOPROXY_CONFIG`, `./config.yaml`, `$XDG_CONFIG_HOME/passoproxy/config.yaml` or
  `/etc/passoproxy/config.yaml`. Names of files in it are relative to its folder.
- Any key can be set by environment: `PASSOPROXY__UPSTREAM__MAX_CONCURRENCY=8` is `upstream.max_concurrency`. The value is read as YAML.
- A duration is `30s`, `15m`, `6h`, `7d` or a number of seconds; a size `64MiB`, `1GiB` or a number of bytes; a share `0.4` or `40%`.
- A secret is a file of its own (the key with `_file`), with mode 0600. Under systemd a credential with the name of the key is found by
  itself.
- Live: a change takes effect by `kill -HUP`. The other keys wait for a restart, and the log names them. The content of a secret's or
  certificate's file is read again within 10 s, without a signal.
- `provider: passolution` brings `oauth.authorization_url`, `oauth.token_url`, `upstream.url`, `oauth.lost_answer_replay` and the routes
  of the Dataservice.
"""


def page() -> str:
    """The whole text."""
    parts, schema = [HEAD], json_schema()
    for name, field in Settings.model_fields.items():
        rows = [
            path for path, key in catalogue().items() if path[0] == name and not key.section and path != ("routes",)
        ]
        about = field.annotation.__doc__ if name not in ("provider", "routes") else _ABOUT[name]  # type: ignore[union-attr]
        parts.append(
            f"\n## {name}\n\n{about}\n\n| key | value | default | live | what it does |\n| --- | --- | --- | --- | --- |\n"
        )
        parts += [_row(path, schema) for path in rows]
    return "".join(parts)


_ABOUT = {
    "provider": "The preset.",
    "routes": "A list; the first route whose `match` fits the path counts: `*` is one segment, `**` any number. Your own come before those\n"
    "of the preset, and one with an equal name replaces it. A request without a route is forwarded, and not stored\n"
    "(`cache.mode: routes`).",
}


def _row(path: tuple[str, ...], schema: dict[str, Any]) -> str:
    live = "yes" if is_live(dotted(path)) else "restart"
    cells = (f"`{dotted(path)}`", _kind(path, schema), _default(path), live, texts()[path])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(path: tuple[str, ...]) -> str:
    value: Any = (
        Settings().plain()
        if path[0] != "routes"
        else {"routes": RouteSettings(name="x", match="/").model_dump(mode="json")}
    )
    if path[-1] in ("name", "match") and path[0] == "routes":
        return "needed"
    if path == ("oauth", "lost_answer_replay"):
        return "none"
    for part in path:
        value = value[part]
    return "none" if value is None else f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def _kind(path: tuple[str, ...], schema: dict[str, Any]) -> str:
    node = schema
    for part in path:
        if "$ref" not in node and "properties" not in node:
            node = next(
                each
                for each in (*node.get("anyOf", ()), node.get("items", {}))
                if "$ref" in each or "$ref" in each.get("items", {})
            )
            node = node.get("items", node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
        node = node["properties"][part]
    key = catalogue()[path]
    return "path" if key.file else "secret" if key.secret else _in_words(node)


def _in_words(node: dict[str, Any]) -> str:
    """The values that a part of the schema allows."""
    if "enum" in node:
        return ", ".join(f"`{each}`" for each in dict.fromkeys(map(str, node["enum"])))
    if "const" in node:
        return "`off`"
    if "anyOf" in node:
        kinds = [_in_words(each) for each in node["anyOf"] if each.get("type") != "null" and each != {"const": False}]
        return " or ".join(dict.fromkeys(kinds)) + (" or `off`" if {"const": False} in node["anyOf"] else "")
    if examples := node.get("examples"):
        return {"30s": "duration", "64MiB": "size", "55%": "share"}[examples[0]]
    kind = node["type"][0] if isinstance(node["type"], list) else node["type"]
    if kind == "integer":
        least, most = node.get("minimum"), node.get("maximum")
        return f"number, {least} to {most}" if most not in (None, 1_000_000) else f"number, {least} or more"
    if kind == "string" and node.get("format") == "uri":
        return "URL"
    if kind == "number" or "ms|s" in node.get("pattern", ""):
        return "duration"
    if kind == "array" and (few := _in_words(node["items"])).startswith("`"):
        return f"list of {few}"
    return {"boolean": "`true`, `false`", "array": "list", "object": "mapping", "string": "text"}[kind]


if __name__ == "__main__":
    PAGE.write_text(page())
