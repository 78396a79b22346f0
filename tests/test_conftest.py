"""A failing test is reported whatever its traceback looks like."""

from __future__ import annotations

import types

import pytest

from tests.conftest import number_lines


def unnumbered(message: str) -> ValueError:
    """An error whose traceback entry stands at an instruction without a line, as when a signal interrupts the end of an `async with`."""

    async def waits() -> None:
        async with nothing:  # noqa: F821 never run: only its code is looked at
            pass

    made = waits()
    frame = made.cr_frame
    at = next(2 * place for place, lines in enumerate(frame.f_code.co_positions()) if lines[0] is None)
    made.close()
    entry = types.TracebackType(None, frame, at, -1)
    assert entry.tb_lineno is None
    return ValueError(message).with_traceback(entry)


def test_an_error_at_an_instruction_without_a_line_is_reported() -> None:
    error = unnumbered("outer")
    error.__cause__ = unnumbered("cause")
    error.__context__ = ExceptionGroup("group", [unnumbered("member"), error])
    with pytest.raises(TypeError, match="NoneType"):
        pytest.ExceptionInfo.from_exception(error).getrepr()
    number_lines(error)
    assert "ValueError: cause" in str(pytest.ExceptionInfo.from_exception(error).getrepr())
    assert "ValueError: outer" in str(pytest.ExceptionInfo.from_exception(error).getrepr(style="short"))
