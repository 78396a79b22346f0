"""Bodies of POST requests and the method that PHP, with a framework that lets forms override it, takes them for."""

from __future__ import annotations

import json

FORM, PARTS, JSON = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json"
DELETE, POST = "DELETE", "POST"


def part(head: str, content: str = "DELETE", boundary: str = "b") -> bytes:
    return f"--{boundary}\r\n{head}\r\n\r\n{content}\r\n--{boundary}--\r\n".encode("latin-1")


def named(parameters: str, content: str = "DELETE") -> bytes:
    return part(f"Content-Disposition: form-data; {parameters}", content)


BODIES: dict[str, tuple[str, bytes, str]] = {
    # ---- forms
    "form": (FORM, b"_method=DELETE", DELETE),
    "form in lower case": (FORM, b"a=b&_method=delete", DELETE),
    "form, the last counts": (FORM, b"_method=POST&_method=DELETE", DELETE),
    "form, the first does not": (FORM, b"_method=DELETE&_method=POST", POST),
    "form, escaped": (FORM, b"%5f%6De%54hod=x&_%6d%65%74%68%6f%64=%44ELETE", DELETE),
    "form, NUL in the name": (FORM, b"_method%00x=DELETE", DELETE),
    "form, raw NUL in the name": (FORM, b"_method\0x=DELETE", DELETE),
    "form, raw NUL and an ampersand": (FORM, b"a=b&_method\0=DELETE&c", DELETE),
    "form, spaces before": (FORM, b"++%20 _method=DELETE", DELETE),
    "form, a dot": (FORM, b".method=DELETE", DELETE),
    "form, two spaces and a dot": (FORM, b"+%20.method=DELETE", DELETE),
    "form, a bracket": (FORM, b"[method=DELETE", POST),
    "form, an open bracket behind": (FORM, b"_method[=DELETE", POST),
    "form, a list": (FORM, b"_method[]=DELETE", POST),
    "form, a longer name": (FORM, b"payment_method=DELETE&_methods=DELETE&_method_=DELETE", POST),
    "form, a value": (FORM, b"a=_method=DELETE", POST),
    "form with a parameter": (FORM + ";charset=utf-8", b"_method=DELETE", DELETE),
    "form with a space and more": (FORM + " x", b"_method=DELETE", DELETE),
    "form with a comma and more": (FORM + ",text/plain", b"_method=DELETE", DELETE),
    "form in upper case": (FORM.upper(), b"_method=DELETE", DELETE),
    "form with a longer type": (FORM + "x", b"_method=DELETE", POST),
    "form, value with a tail": (FORM, b"_method=DELETE%20", DELETE),
    "form after many": (FORM, b"a=b&" * 900 + b"_method=DELETE", DELETE),
    # ---- JSON
    "JSON": (JSON, b'{"_method": "DELETE"}', DELETE),
    "JSON, escaped": (JSON, b'{"\\u005f\\u006Dethod": "DELETE"}', DELETE),
    "JSON, the last counts": (JSON, b'{"_method": "POST", "_method": "DELETE"}', DELETE),
    "JSON, a number of 5000 digits": (JSON, b'{"a": ' + b"9" * 5000 + b', "_method": "DELETE"}', DELETE),
    "JSON, a float of 5000 digits": (JSON, b'{"a": 1.' + b"9" * 5000 + b', "_method": "DELETE"}', DELETE),
    "JSON, nested 400 deep": (JSON, b'{"a": ' + b"[" * 400 + b"]" * 400 + b', "_method": "DELETE"}', DELETE),
    "JSON, nested too deep for PHP": (JSON, b'{"a": ' + b"[" * 600 + b"]" * 600 + b', "_method": "DELETE"}', POST),
    "JSON, within": (JSON, b'{"a": {"_method": "DELETE"}}', POST),
    "JSON, in a list": (JSON, b'[{"_method": "DELETE"}]', POST),
    "JSON, a number": (JSON, b'{"_method": 1}', POST),
    "JSON, a value": (JSON, b'{"a": "_method"}', POST),
    "JSON, broken": (JSON, b'{"_method": "DELETE"', POST),
    "JSON, space around": (JSON, b' \r\n\t{"_method"\n:\t"DELETE"}\n ', DELETE),
    "text/json": ("text/json", b'{"_method": "DELETE"}', DELETE),
    "a type with +json": ("application/vnd.api+json", b'{"_method": "DELETE"}', DELETE),
    "a type with /json somewhere": ("text/plain; x=/json", b'{"_method": "DELETE"}', DELETE),
    "a type with +json somewhere": ("text/plain, a/b+jsonx", b'{"_method": "DELETE"}', DELETE),
    "JSON without a type": ("", b'{"_method": "DELETE"}', POST),
    "a form that is called JSON": (JSON, b"_method=DELETE", POST),
    "a form called text": ("text/plain", b"_method=DELETE", POST),
    # ---- parts
    "parts": (PARTS, named('name="_method"'), DELETE),
    "parts, unquoted": (PARTS, named("name=_method"), DELETE),
    "parts, single quotes": (PARTS, named("name='_method'"), DELETE),
    "parts, NUL in the name": (PARTS, named('name="_method\0x"'), DELETE),
    "parts, spaces in the name": (PARTS, named('name="  _method"'), DELETE),
    "parts, a dot in the name": (PARTS, named('name=".method"'), DELETE),
    "parts, a quoted semicolon before": (PARTS, named("x=';'; name=_method"), DELETE),
    "parts, an open quotation before": (PARTS, named("x='filename=\"'; name=_method; y=\""), DELETE),
    "parts, an escaped quotation before": (PARTS, named('x="\\"; y"; name="_method"'), DELETE),
    "parts, two equals signs": (PARTS, named('name=="_method"'), DELETE),
    "parts, space before the quotation": (PARTS, named('name= \t"_method"'), DELETE),
    "parts, no space": (PARTS, part('content-disposition:form-data;NAME="_method"'), DELETE),
    "parts, a tab": (PARTS, named('\tname="_method"\t'), DELETE),
    "parts, folded": (PARTS, named('\r\n name="_method"'), DELETE),
    "parts, folded by a tab and LF": (PARTS, named('\n\tname="_method"'), DELETE),
    "parts, broken over lines": (PARTS, named('na\r\nme="_me\r\nthod"'), DELETE),
    "parts, a line without a colon goes on": (PARTS, part('Content-Disposition: form-data; \nname="_method"'), DELETE),
    "parts, a second head field": (PARTS, part('A: b\r\nContent-Disposition: form-data; name="_method"\r\nC: d'), DELETE),
    "parts, LF alone": (PARTS, named('name="_method"').replace(b"\r\n", b"\n"), DELETE),
    "parts, a longer name": (PARTS, named('name="payment_method"') + named('name="_methods"'), POST),
    "parts, a file": (PARTS, named('name="a"; filename="_method"'), POST),
    "parts, a value": (PARTS, named('name="a"', "_method"), POST),
    "parts, name in a quotation": (PARTS, named("x='name=\"_methodx\"'; name=a"), POST),
    "parts, another disposition": (PARTS, part('Content-Disposition: x; name="_method"'), DELETE),
    "parts, head ended by NUL": (PARTS, b'--b\r\nContent-Disposition: a; name=_method\r\n\0\r\nDELETE\r\n--b\r\n\r\nPOST\r\n--b--\r\n', DELETE),
    "parts, a value after NUL": (PARTS, b'--b\r\nContent-Disposition: a; na\0x\r\nme="_method"\r\n\r\nDELETE\r\n--b--\r\n', DELETE),
    "parts, a line longer than PHP's buffer": (PARTS, part("X: " + "y" * 5114 + '\nContent-Disposition: a; name="_method"'), DELETE),
    "parts, a field behind PHP's buffer": (PARTS, part("y" * 5120 + 'Content-Disposition: a; name="_method"'), DELETE),
    "parts, the name's end behind PHP's buffer": (PARTS, part('Content-Disposition: a; x="' + "y" * (5120 - 42) + '"; name=_method' + "X: y"), DELETE),
    "parts, quoted boundary": ('multipart/form-data; boundary="b"', named('name="_method"'), DELETE),
    "parts, boundary and more": ("multipart/form-data; boundary=b,c", named('name="_method"'), DELETE),
    "parts, two boundaries": ("multipart/form-data; xboundary=b; boundary=c", named('name="_method"'), DELETE),
    "parts, no semicolon": ("multipart/form-data boundary=b", named('name="_method"'), DELETE),
    "parts, a comma": ("multipart/form-data, boundary=b", named('name="_method"'), DELETE),
    "parts, empty boundary": ("multipart/form-data; boundary=", part('Content-Disposition: a; name="_method"', boundary=""), DELETE),
    "parts, before the first boundary": (PARTS, b"preamble\r\n" + named('name="_method"'), DELETE),
    "parts, no last boundary": (PARTS, b'--b\r\nContent-Disposition: a; name="_method"\r\n\r\nDELETE\r\n--b', DELETE),
    "parts, called mixed": ("multipart/mixed; boundary=b", named('name="_method"'), POST),
    "parts, called a form": (FORM, named('name="_method"'), POST),
}  # fmt: skip

MEANT: dict[str, tuple[str, bytes]] = {
    # what honest clients send, each with a method that a list without DELETE allows
    "a form": (FORM, b"name=a&payment_method=card&_method=POST"),
    "a longer form": (FORM, b"text=" + b"_method " * 1000),
    "JSON": (JSON, json.dumps({"payment_method": "card", "a": {"_method": "DELETE"}, "_method": None}).encode()),
    "JSON with a number": (JSON, b'{"n": ' + b"9" * 5000 + b"}"),
    "parts": (PARTS, named('name="_method"', "POST") + named('name="a"; filename="a.bin"', "\0\1\2 name=_method \n\n")),
    "bytes": ("application/octet-stream", bytes(range(256)) * 40 + b"\nContent-Disposition: \0 name=_method\n"),
    "text": ("text/plain", b"a=b\n_method=DELETE\n"),
    "nothing": ("", b""),
}
"""Bodies that pass."""
