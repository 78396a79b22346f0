"""Reads the coverage that `make test` gathered and holds every room to its gate: the core to all branches, the rest to 90 %."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from coverage import Coverage

GATES = {"passoproxy/core/": 100.0, "passoproxy/errors.py": 100.0, "passoproxy/ports.py": 90.0}
ROOM_GATE = 90.0


def measured() -> dict[str, tuple[int, int]]:
    """For each file: branches and statements covered, and in all."""
    coverage = Coverage()
    coverage.combine(strict=False) if list(Path().glob(".coverage.*")) else None
    coverage.load()
    target = Path(".coverage.json")
    sys.stdout, kept = io.StringIO(), sys.stdout
    try:
        coverage.json_report(outfile=str(target))
    finally:
        sys.stdout = kept
    files = json.loads(target.read_text())["files"]
    target.unlink()
    return {
        name: (
            each["summary"]["covered_lines"] + each["summary"]["covered_branches"],
            each["summary"]["num_statements"] + each["summary"]["num_branches"],
        )
        for name, each in files.items()
    }


def room_of(name: str) -> str:
    """The gate's name for a file: a listed prefix, else its folder in the package."""
    for prefix in GATES:
        if name.startswith(prefix):
            return prefix
    parts = name.split("/")
    return f"{parts[0]}/{parts[1]}/" if len(parts) > 2 else f"{parts[0]}/*.py"


def main() -> int:
    rooms: dict[str, list[int]] = {}
    files = measured()
    for name, (covered, whole) in files.items():
        room = rooms.setdefault(room_of(name), [0, 0])
        room[0] += covered
        room[1] += whole
    failed = False
    for room, (covered, whole) in sorted(rooms.items()):
        share = 100.0 * covered / whole if whole else 100.0
        gate = GATES.get(room, ROOM_GATE)
        mark = "" if share >= gate else f"  below its gate of {gate:.0f} %"
        failed = failed or bool(mark)
        print(f"{share:6.1f} %  {room}{mark}")
    for name, (covered, whole) in sorted(files.items()):
        if name.startswith("passoproxy/core/") and covered < whole:
            print(f"not covered whole: {name} ({covered} of {whole} lines and branches)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
