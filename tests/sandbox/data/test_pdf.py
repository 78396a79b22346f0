"""PDF files that a strict reader accepts: header, offsets, lengths, text."""

import re

import pytest

from passoproxy.sandbox.data.pdf import document


def check(raw: bytes) -> int:
    """Follows the cross-reference table as a reader does; the number of pages."""
    start = int(raw.rsplit(b"startxref\n", 1)[1].split()[0])
    assert raw[start:].startswith(b"xref\n")
    count = int(raw[start:].split()[2])
    lines = raw[start:].split(b"\n")[2 : 2 + count]
    for number, line in enumerate(lines[1:], 1):
        assert raw[int(line[:10]) :].startswith(f"{number} 0 obj\n".encode())
    for length, content in re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream", raw, re.DOTALL):
        assert int(length) == len(content)
    (pages,) = re.findall(rb"/Count (\d+)", raw)
    assert raw.count(b"/Type /Page ") == int(pages)
    return int(pages)


def test_a_small_file() -> None:
    raw = document("Türkei (Entwurf)", [("Visum", "Kein Visum nötig.\n\nZweiter Absatz \\ mit €")])
    assert check(raw) == 1
    assert rb"T\374rkei" in raw or "Türkei".encode("cp1252") in raw
    assert rb"\(Entwurf\)" in raw
    assert b"nicht" not in raw
    assert raw == document("Türkei (Entwurf)", [("Visum", "Kein Visum nötig.\n\nZweiter Absatz \\ mit €")])


@pytest.mark.parametrize(("paragraphs", "pages"), [(0, 1), (51, 1), (60, 2), (500, 10)])
def test_pages(paragraphs: int, pages: int) -> None:
    text = "\n".join(["line"] * paragraphs)
    assert check(document("T", [("H", text)] if paragraphs else [])) == pages


def test_long_lines_are_wrapped_and_foreign_letters_replaced() -> None:
    raw = document("東京", [("", "word " * 100)])
    assert check(raw) == 1
    drawn = re.findall(rb"\((.*)\) Tj", raw)
    assert len(drawn) > 5
    assert max(map(len, drawn)) <= 92
    assert b"(??)" in raw
