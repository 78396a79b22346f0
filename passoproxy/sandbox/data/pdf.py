"""Small, valid PDF files: headings and wrapped paragraphs in Helvetica on A4, nothing else."""

import textwrap
from collections.abc import Iterable, Iterator

_LINES_A_PAGE = 54
_CHARACTERS_A_LINE = 92


def document(title: str, parts: Iterable[tuple[str, str]]) -> bytes:
    """A PDF with a title and parts of heading and text; the same input gives the same bytes."""
    lines = list(_lines(title, parts))
    pages = [lines[start : start + _LINES_A_PAGE] for start in range(0, len(lines), _LINES_A_PAGE)]
    return _file(title, [_page(page) for page in pages])


def _lines(title: str, parts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Lines of font name and text."""
    yield "F2", title
    for heading, text in parts:
        yield "F1", ""
        yield "F2", heading
        for paragraph in text.split("\n"):
            for line in textwrap.wrap(paragraph, _CHARACTERS_A_LINE) or [""]:
                yield "F1", line


def _page(lines: list[tuple[str, str]]) -> bytes:
    drawn = [f"/{font} 10 Tf ({_escaped(text)}) Tj T*" for font, text in lines]
    return "\n".join(["BT 14 TL 56 790 Td", *drawn, "ET"]).encode("cp1252", "replace")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _file(title: str, pages: list[bytes]) -> bytes:
    first = 6
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /{} /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        font.format("Helvetica").encode(),
        font.format("Helvetica-Bold").encode(),
        f"<< /Title ({_escaped(title)}) /Producer (sandbox) >>".encode("cp1252", "replace"),
    ]
    for number, content in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> "
            + f"/Contents {first + 2 * number + 1} 0 R >>".encode()
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream")
    return _joined(objects)


def _joined(objects: list[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010d} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(out)
