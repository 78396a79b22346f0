"""`passoproxy completion SHELL`: a script for bash, zsh or fish with every command and option in it, so that completing starts no Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from shlex import quote
from typing import Annotated, Any

import typer

from passoproxy.cli import NAME
from passoproxy.cli.help import arguments_of, walk
from passoproxy.cli.options import UnreadConfigOption
from passoproxy.cli.output import say
from passoproxy.errors import UsageFailure


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell that will read the script.")],
    config: UnreadConfigOption = None,
) -> None:
    """Print the script that completes commands in a shell.

    \b
    Example:
      eval "$(passoproxy completion bash)"      in ~/.bashrc
      eval "$(passoproxy completion zsh)"       in ~/.zshrc, after compinit
      passoproxy completion fish | source       in ~/.config/fish/config.fish
    """
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in scripts:
        raise UsageFailure(f"{shell!r} is no shell that is known here; name one of {', '.join(scripts)}")
    from passoproxy.cli.app import build

    say("\n".join(scripts[shell](list(walk(build())))))


Tree = list[tuple[str, Any]]
"""Each group and command with its path; the program has the empty path."""


def _options(command: Any) -> Iterator[tuple[list[str], str, str]]:
    """Names, help and kind of value of each option; no kind for a flag."""
    for each in command.params:
        if each.param_type_name == "option":
            yield each.opts, each.help, "" if each.is_flag else each.metavar
    yield ["--help"], "Show this message and exit.", ""


def _words(path: str, option: str, kind: str) -> list[str]:
    """The values that an option or argument can have, where they are few."""
    if option == "--fault":
        return list(import_module(f"passoproxy.cli.{path}").names())
    return kind.split("|") if "|" in kind else []


def _inner(command: Any) -> dict[str, str]:
    """Commands below this one with their help in short."""
    return {name: each.get_short_help_str(80) for name, each in getattr(command, "commands", {}).items()}


def _arguments(command: Any) -> list[str]:
    return [each.metavar for each in arguments_of(command)]


def _is_file(kind: str) -> bool:
    return kind in ("PATH", "FILE") or "--" in kind


def _known(tree: Tree) -> str:
    """Paths as a pattern of `case`; each begins with a space."""
    return "|".join(f"' {path}'" for path, _ in tree if path)


def _bash(tree: Tree) -> Iterable[str]:
    values = dict[str, list[str]]()
    cases = []
    for path, command in tree:
        at, options = f" {path}" if path else "", [name for names, _, _ in _options(command) for name in names]
        for names, _, kind in _options(command):
            if kind:
                values.setdefault(" ".join(_words(path, names[-1], kind)), []).extend(f"{at} {each}" for each in names)
        few = [word for kind in _arguments(command) for word in _words(path, "", kind)]
        takes_file = any(_is_file(kind) for kind in _arguments(command))
        guard = "[[ $current != -* ]] || " if takes_file else ""
        cases.append(f"      {quote(at)}) {guard}words={quote(' '.join([*_inner(command), *few, *options]))} ;;")
    yield f"""_{NAME}() {{
  local at= i words= current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at ${{COMP_WORDS[i]}}" in {_known(tree)}) at="$at ${{COMP_WORDS[i]}}" ;; esac
    [[ ${{COMP_WORDS[i]}} != -- ]] || return 0
  done
  case "$at $before" in"""
    for words, patterns in values.items():
        yield f"    {'|'.join(map(quote, patterns))}) words={quote(words)} ;;"
    yield '    *) case "$at" in'
    yield from cases
    yield f"""    esac ;;
  esac
  # without words for it, bash completes a file
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _{NAME} {NAME}"""


def _zsh(tree: Tree) -> Iterable[str]:
    def escaped(text: str) -> str:
        return re.sub(r"([\[\]:\\])", r"\\\1", text)

    def action(path: str, option: str, kind: str) -> str:
        words = " ".join(_words(path, option, kind))
        files = "_files" if _is_file(kind) else "_files -/" if kind == "DIR" else " "
        return f"{escaped(kind)}:{f'({words})' if words else files}"

    yield f"""#compdef {NAME}
_{NAME}() {{
  local at=
  while (( CURRENT > 2 )); do
    case "$at $words[2]" in
      ({_known(tree)}) at="$at $words[2]"; shift words; (( CURRENT-- )) ;;
      (*) break ;;
    esac
  done
  case "$at" in"""
    for path, command in tree:
        given = []
        for names, help, kind in _options(command):
            value = f":{action(path, names[-1], kind)}" if kind else ""
            given += [quote(f"*{name}[{escaped(help)}]{value}") for name in names]
        given += [quote(f"{'*' if '--' in kind else ''}:{action(path, '', kind)}") for kind in _arguments(command)]
        if inner := _inner(command):
            listed = " ".join(f"{name}\\:{_double(help)}" for name, help in inner.items())
            given.append(quote(f"1:command:(({listed}))"))
        yield f"    ({quote(f' {path}' if path else '')}) _arguments {' '.join(given)} ;;"
    yield f"""  esac
}}
if [[ $funcstack[1] == _{NAME} ]]; then _{NAME} "$@"; else compdef _{NAME} {NAME}; fi"""


def _double(text: str) -> str:
    return '"' + re.sub(r'(["\\$`:])', r"\\\1", text) + '"'


def _fish(tree: Tree) -> Iterable[str]:
    yield f"""function __{NAME}_at
  set -l at ''
  for word in (commandline -opc)[2..]
    switch "$at $word"
      case {_known(tree).replace("|", " ")}
        set at "$at $word"
    end
  end
  test "$at" = "$argv[1]"
end
complete -c {NAME} -f"""
    for path, command in tree:
        begin = f"complete -c {NAME} -n {quote(f'__{NAME}_at ' + _double(f' {path}' if path else ''))}"
        for name, help in _inner(command).items():
            yield f"{begin} -a {name} -d {quote(help)}"
        for names, help, kind in _options(command):
            forms = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in names)
            yield f"{begin} {forms} {_fish_value(path, names[-1], kind) if kind else ''} -d {quote(help)}"
        for kind in _arguments(command):
            yield f"{begin} {_fish_value(path, '', kind).removeprefix('-x ').removeprefix('-r ')}".rstrip()


def _fish_value(path: str, option: str, kind: str) -> str:
    if words := _words(path, option, kind):
        return f"-x -a {quote(' '.join(words))}"
    if kind == "DIR":
        return "-x -a '(__fish_complete_directories)'"
    return "-r -F" if _is_file(kind) else "-x"
