"""Nothing that others wrote commands the terminal: control characters are shown, markup is text."""

from __future__ import annotations

import ast
import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

import sumcirc
from sumcirc.runtime.progress import counted
from sumcirc.runtime.quoting import line, visible
from sumcirc.runtime.terminal import WIDE, Guarded, console, guard, paragraph, say
from sumcirc.sweeps.display import Display

CLEAR = "\x1b[2J\x1b[H"  # clears the screen
TITLE = "\x1b]0;owned\x07"  # renames the window
EIGHT_BIT = "\x9b31m\x9d0;owned\x9c"  # the same in one byte each
TURNED = "\u202egpj.exe\u2066\u2069"
HOSTILE = f"a{CLEAR}b{TITLE}c{EIGHT_BIT}d{TURNED}e\rf\x08g\x00h\u2028i\ud800j"
SHOWN = (
    r"a\x1b[2J\x1b[Hb\x1b]0;owned\x07c\x9b31m\x9d0;owned\x9cd\u202egpj.exe\u2066\u2069"
    r"e\x0df\x08g\x00h\u2028i\ud800j"
)
MARKUP = "[/red] [bold]x[/bold] :smile: [link=https://e.example]y[/link]"


def controls(text: str) -> set[str]:
    """Characters that a terminal would act on."""
    return {one for one in text if one not in "\n\t" and (ord(one) < 32 or 127 <= ord(one) < 160)}


def test_control_characters_are_shown() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible(SHOWN) == SHOWN
    assert visible("one\ttwo\nthree é 漢字 🙂 ‘’") == "one\ttwo\nthree é 漢字 🙂 ‘’"
    assert line("a\nsumcirc: done") == r"a\nsumcirc: done"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"runs/x\nsumcirc: all is well{CLEAR}")
    say("wrong", error=True)
    assert capsys.readouterr() == (
        "runs/x\\nsumcirc: all is well\\x1b[2J\\x1b[H\n",
        "wrong\n",
    )


# ---- everything else that reaches the streams


class Terminal(io.StringIO):
    """Claims to be one."""

    def isatty(self) -> bool:
        return True


@contextmanager
def streams(kind: type[io.StringIO] = io.StringIO) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Standard output and error, guarded; not a fixture, since pytest sets them between phases."""
    before, factory = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    sys.stdout, sys.stderr = out, err = kind(), kind()
    try:
        guard()
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
        logging.setLogRecordFactory(factory)


@contextmanager
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard output as a terminal of 100 columns with colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with streams(Terminal) as (out, _):
        yield out


def test_what_libraries_print_is_guarded() -> None:
    with streams() as (out, err):
        print(HOSTILE)
        sys.stderr.writelines([HOSTILE, "\n"])
    assert out.getvalue() == err.getvalue() == f"{SHOWN}\n"


def test_the_guard_stands_once() -> None:
    with streams() as (out, _):
        first = sys.stdout
        guard()
        assert sys.stdout is first
        assert isinstance(first, Guarded)
        assert first.raw is out


def test_log_records_are_guarded_and_can_not_pose_as_others(tmp_path: Path) -> None:
    """Of every handler and logger: also in files, which somebody will print."""
    logger = logging.getLogger("test_terminal")
    logger.propagate = False
    with streams() as (out, _):
        handlers = [logging.StreamHandler(sys.stdout), logging.FileHandler(tmp_path / "log.txt")]
        for handler in handlers:
            handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
            logger.addHandler(handler)
        logger.warning("run %s", f"x{CLEAR}\n[ERROR] everything is lost")
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
    wanted = "[WARNING] run x\\x1b[2J\\x1b[H\n    [ERROR] everything is lost\n"
    assert out.getvalue() == wanted
    assert (tmp_path / "log.txt").read_text() == wanted


def test_progress_bars_of_libraries_still_draw() -> None:
    from tqdm import tqdm

    with streams() as (out, err):
        for _ in tqdm(range(2), desc=f"load{CLEAR}", file=sys.stderr, mininterval=0):
            pass
        shown = err.getvalue()
        sys.stderr.write("\n\x1b[A")  # of nested bars
        print("\rover the line before", "\x1b[A")
    assert shown.startswith("\rload\\x1b[2J\\x1b[H:   0%")
    assert "100%" in shown
    assert controls(shown) == {"\r"}
    assert err.getvalue() == shown + "\n\x1b[A"
    assert out.getvalue() == "\\x0dover the line before \\x1b[A\n"


def test_letters_that_the_encoding_lacks_are_shown(tmp_path: Path) -> None:
    """Instead of a UnicodeEncodeError under LANG=C and the like."""
    script = (
        "from sumcirc.runtime.terminal import guard, say; guard(); say('\u2192 \u6f22 \\ud800')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={**environment, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert done.stdout == b"\\u2192 \\u6f22 \\ud800\n"


def test_every_command_is_guarded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sumcirc.cli.main import main

    with pytest.raises(SystemExit):
        main([f"no{CLEAR}verb"])
    assert "`no\\x1b[2J\\x1b[Hverb` is not a verb" in capsys.readouterr().err
    assert isinstance(sys.stdout, Guarded)


# ---- tables


def test_tables_show_control_characters_and_markup_as_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(title=f"title {CLEAR}{MARKUP}")
    table.add_column(f"heading {MARKUP}")
    table.add_row(f"cell {HOSTILE}")
    table.add_row(MARKUP)
    table.add_row(Text(f"text {TITLE}{MARKUP}"))
    with streams() as (out, _):
        console().print(table)
        console().print(f"line {MARKUP}{CLEAR}")
    shown = out.getvalue()
    assert not controls(shown)
    for text in (
        *(f"title \\x1b[2J\\x1b[H{MARKUP}", f"heading {MARKUP}", f"cell {SHOWN}", MARKUP),
        # rich leaves a bell out of its own texts
        *(f"text \\x1b]0;owned{MARKUP}", f"line {MARKUP}\\x1b[2J\\x1b[H"),
    ):
        assert text in shown


def test_a_file_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with streams() as (out, _):
        assert console().width == WIDE
        console().print("x" * WIDE)
    assert out.getvalue() == "x" * WIDE + "\n"


@pytest.mark.parametrize(
    ("columns", "width"), [("80", 80), ("0", WIDE), ("wide", WIDE), ("", WIDE)]
)
def test_a_file_follows_columns(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with streams() as (out, _):
        assert console().width == width
        paragraph(f"y {'x' * 200} z")
    assert out.getvalue().split() == ["y", "x" * 200, "z"]


def test_our_own_colours_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with screen(monkeypatch) as out:
        console().print(Text(f"done {CLEAR}", style="green"))
    assert out.getvalue() == "\x1b[32mdone \\x1b[2J\\x1b[H\x1b[0m\n"


@pytest.mark.parametrize("draw", ["counted", "live"])
def test_what_is_printed_beside_a_bar_is_guarded(
    draw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live display of rich takes standard output's place, and reads colours in what it gets."""
    text = f"run \x1b[31mred{CLEAR}{TITLE}{EIGHT_BIT}[/red]"
    with screen(monkeypatch) as out:
        if draw == "counted":
            with counted(f"probe {MARKUP}{CLEAR}", 2) as advance:
                advance(1)
                print(text)
        else:
            with Display(1):
                print(text)
    shown = out.getvalue()
    assert visible(text) in re.sub(r"\s*\n", "", shown)
    assert CLEAR not in shown
    assert TITLE not in shown
    assert not set(shown) & set("\x9b\x9d\x9c\x07")
    if draw == "counted":
        assert f"probe {MARKUP}" in shown


# ---- one place


def calls(tree: ast.AST, name: str) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


# prints of several lines, none of which others wrote; JSON, which escapes what it holds
MAY_PRINT = {"cli/main.py", "runtime/terminal.py", "jobs/pretrain.py", "sweeps/status.py"}


def test_only_one_module_prints() -> None:
    root = Path(sumcirc.__file__).parent
    printing, drawing = set(), set()
    for file in root.rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        name = str(file.relative_to(root))
        if calls(ast.parse(source), "print"):
            printing.add(name)
        if (
            re.search(r"\bConsole\b", source)
            or "rich import print" in source
            or "get_console" in source
        ):
            drawing.add(name)
    assert printing <= MAY_PRINT
    assert drawing == {"runtime/terminal.py"}


def test_rich_is_not_imported_before_a_table_is_drawn() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sumcirc.runtime.terminal; print('rich' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "False\n"
