"""W3C Trace Context: which values of `traceparent` count, and how a trace goes on."""

from __future__ import annotations

import pytest

from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.trace_context import Trace, TraceContext, context_of, trace_id, traceparent_in, traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (GOOD, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"00-{TRACE}-{SPAN}-ff", 255),
        (f"01-{TRACE}-{SPAN}-01", 1),  # a later version may only add
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be", 1),
    ],
)
def test_a_valid_field_names_trace_span_and_flags(value: str, flags: int) -> None:
    assert context_of(value) == TraceContext(TRACE, SPAN, flags)
    assert trace_id(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" {GOOD}",
        GOOD.replace("-", "_"),
    ],
)
def test_a_malformed_field_counts_as_absent(value: str) -> None:
    assert context_of(value) is None
    assert trace_id(value) == ""


@pytest.mark.parametrize(
    ("flags", "sampled", "sent"), [(0, False, "00"), (1, True, "01"), (2, False, "02"), (255, True, "03")]
)
def test_of_the_flags_only_known_ones_go_on(flags: int, sampled: bool, sent: str) -> None:
    context = TraceContext(TRACE, SPAN, flags)
    assert (context.is_sampled, context.traceparent) == (sampled, f"00-{TRACE}-{SPAN}-{sent}")


@pytest.mark.parametrize(
    ("pairs", "value"),
    [
        ((), ""),
        ((("TraceParent", GOOD),), GOOD),
        ((("traceparent", GOOD), ("Traceparent", GOOD)), ""),  # of two it is not known which is meant
    ],
)
def test_only_one_field_alone_counts(pairs: tuple[tuple[str, str], ...], value: str) -> None:
    assert traceparent_of(fields_of(pairs)) == value
    assert traceparent_in("".join(f"\r\n{name}: {given}\t" for name, given in pairs).encode()) == value


def test_who_waits_for_another_is_linked_with_it_both_ways() -> None:
    asks, waits = Trace(TraceContext(TRACE, SPAN)), Trace(TraceContext(TRACE[::-1], SPAN[::-1]))
    waits.joins(asks)
    assert (waits.links, asks.sent_links, asks.links, waits.sent_links) == ([asks.context], [waits.context], [], [])
