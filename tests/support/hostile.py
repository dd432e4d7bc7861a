"""Names and texts that would act as code or markup if they were not quoted."""

from __future__ import annotations

SENTINEL = "OWNED"  # a file that appears if anything of it runs
_RUN = f"open({SENTINEL!r}, 'w').close()"

NAMES = {
    "ends a docstring": f'x"""\n{_RUN}\n"""',
    "ends a string": f'x", {_RUN}, "',
    "ends another string": f"x', {_RUN}, '",
    "a backslash": f'x\\", {_RUN} #',
    "a line": f"x\n{_RUN}\n",
    "a carriage return": f"# x\r{_RUN}\r",
    "a coding cookie": "# coding: utf-7 +AG8AcABlAG4-",
    "a template": "{base.__class__} {0} {} %s {{7*7}} ${HOME}",
    "a command": f"$(touch {SENTINEL}) `touch {SENTINEL}` ; touch {SENTINEL} & | > {SENTINEL} ' \"",
    "an option": "--help",
    "a formula": f"=cmd|' /c touch {SENTINEL}'!A1",
    "a link": "[click](https://e.example) <https://e.example> ![x](https://e.example/x.png)",
    "a definition": "[click]: https://e.example\n\n[click]",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)><!--",
    "emphasis": "*a* **b** _c_ ~~d~~ `e` \\*f\\*",
    "a fence": "```\nnot code\n```",
    "a table": "a | b\n|---|---|\n| c | d |",
    "a heading": "# a\n\n- b\n1. c\n> d\n---\n+ e",
    "front matter": "x\n---\nlicense: mine\ntags: [a]\n---\n&a *a !!python/object:x : {",
    "math": "$\\frac{1$ $$x_{y $\\badcommand$",
    "escapes": "\x1b[2J\x1b]0;x\x07\x9b31m\x00\x08",
    "turned around": "\u202egnp.exe\u2066\u2069\u200f",
    "separators": "a\u2028b\u2029c\x0bd\x0ce\x85f",
    "a surrogate": "a\ud800b",
    "underscore": "_hidden",
    "markup of rich": "[/red] [bold]x[/bold] :smile:",
    "path": "../../../etc/passwd",
    "empty": "",
    "long": "x" * 3000,
}
