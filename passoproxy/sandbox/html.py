# ruff: noqa: E501 (a style sheet has a rule a line)
"""How the sandbox's pages look: one style sheet inside the page, no scripts, nothing loaded from elsewhere."""

from html import escape

_STYLE = """
:root{--back:#eef2f6;--card:#fff;--ink:#17212b;--soft:#5b6b7b;--line:#dde4eb;--mark:#0b6e6e;--onmark:#fff;--tint:#e6f3f2;--warn:#8a5300;--warnback:#fff5e0}
@media(prefers-color-scheme:dark){:root{--back:#10161c;--card:#18212a;--ink:#e8eef4;--soft:#9fb0c0;--line:#2b3946;--mark:#3fb9b1;--onmark:#06201f;--tint:#14302f;--warn:#f3c57a;--warnback:#33280f}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
main.narrow{max-width:34rem;padding-top:7vh}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1.6rem 1.75rem;box-shadow:0 1px 2px #0001,0 8px 28px #00000010;margin:0 0 1.25rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .5rem;letter-spacing:-.01em}
h2{font-size:1.1rem;margin:0 0 .75rem}
h3{font-size:1rem;margin:1.3rem 0 .3rem;color:var(--mark)}
p{margin:.4rem 0}.soft{color:var(--soft)}small,.small{font-size:.875rem}
.head{display:flex;gap:1rem;align-items:center;margin-bottom:1.1rem}
.badge{flex:none;width:3.1rem;height:3.1rem;border-radius:12px;background:var(--mark);color:var(--onmark);display:grid;place-items:center;font-weight:700;font-size:1.3rem}
.head h1{font-size:1.25rem;margin:0}.badge.warn{background:var(--warnback);color:var(--warn)}
ul{margin:.4rem 0;padding-left:1.2rem}li{margin:.2rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.45rem 1.1rem;margin:1rem 0;padding:1rem 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
dl{align-items:center}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em}
pre{background:var(--back);border:1px solid var(--line);border-radius:9px;padding:.8rem 1rem;overflow:auto;margin:.6rem 0;white-space:pre-wrap;overflow-wrap:anywhere}
table{width:100%;border-collapse:collapse;font-size:.93rem}td,th{text-align:left;vertical-align:top;padding:.42rem .9rem .42rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}tr:last-child td{border-bottom:0}td code{overflow-wrap:anywhere}
.nowrap{white-space:nowrap}
@media(max-width:32rem){dl{grid-template-columns:1fr;gap:.15rem}dd{margin-bottom:.6rem}main{padding-top:1.5rem}.card{padding:1.25rem}}
a{color:var(--mark)}
.actions{display:flex;gap:.75rem;margin-top:1.4rem}
button{flex:1;font:inherit;font-weight:600;padding:.7rem 1rem;border-radius:9px;border:1px solid var(--line);background:transparent;color:var(--ink);cursor:pointer}
button.main{background:var(--mark);border-color:var(--mark);color:var(--onmark)}
button:hover{filter:brightness(1.07)}button:focus-visible,select:focus-visible,a:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
select{font:inherit;width:100%;padding:.5rem .6rem;border-radius:9px;border:1px solid var(--line);background:var(--card);color:var(--ink)}
.note{background:var(--warnback);color:var(--warn);border-radius:9px;padding:.55rem .85rem;font-size:.875rem;margin:1.1rem 0 0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(19rem,1fr));gap:1.25rem}.grid .card{margin:0}
.tag{display:inline-block;background:var(--tint);color:var(--mark);border-radius:99px;padding:.05rem .65rem;font-size:.8rem;font-weight:600}
"""


def page(title: str, body: str, *, language: str = "en", narrow: bool = False) -> str:
    """A whole HTML document around `body`, which must be escaped already."""
    kind = ' class="narrow"' if narrow else ""
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main{kind}>\n{body}\n</main>\n</body>\n</html>\n"
    )
