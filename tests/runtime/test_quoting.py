"""Text of others stays text in every language that is written: read back by that language's own."""

from __future__ import annotations

import ast
import csv
import io
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from sumcirc.jobs.select import _python
from sumcirc.models import model_cards
from sumcirc.runtime.quoting import code, command, line, markdown, visible, word
from sumcirc.schema import EncodingConfig
from sumcirc.storage.writing import csv_text
from tests.support.hostile import NAMES, SENTINEL

every_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


@every_name
def test_nothing_acts_in_a_line(name: str) -> None:
    shown = line(name)
    assert all(one.isprintable() or one in "\t\xa0" for one in shown), ascii(shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert visible(visible(name)) == visible(name)


# ---- Python


@every_name
def test_the_python_file_of_select_holds_names_as_literals(name: str, tmp_path: Path) -> None:
    chosen = {"selector": "page", "because": name, "data": name, "trainable_parameters": 3}
    arguments = {"r": 2, "target_modules": [name], "rank_pattern": {name: 1}}
    text = _python(name, chosen, arguments)
    file = tmp_path / "lora_config.py"
    file.write_text(text, encoding="utf-8")
    tree = ast.parse(file.read_bytes())
    kinds = [type(node) for node in tree.body]
    assert kinds == [ast.Expr, ast.ImportFrom, ast.Assign, ast.Assign, ast.Assign]
    called: Any = tree.body[-1]
    assert ast.dump(called.value.func) == ast.dump(ast.parse("LoraConfig", mode="eval").body)
    for node in ast.walk(tree):
        assert isinstance(node, ast.Call) is (node is called.value)
    # run by Python itself, with a stand-in for PEFT
    (tmp_path / "peft.py").write_text("LoraConfig = dict\n")
    script = "import lora_config as m; print(ascii([m.BASE, m.CHOSEN, m.config]))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == [name, chosen, arguments]
    assert not (tmp_path / SENTINEL).exists()


# ---- Markdown and YAML


def markdown_reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def text_of(source: str) -> str:
    """What a Markdown reader shows of a source; fails where it is more than text or code."""
    words = []
    for token in markdown_reader().parse(source):
        for part in [token, *(token.children or [])]:
            kind = part.type.removesuffix("_open").removesuffix("_close")
            allowed = ("inline", "paragraph", "text", "text_special", "code_inline", "heading")
            assert kind in (*allowed, "bullet_list", "list_item"), (part.type, part.content)
            if kind in ("text", "text_special", "code_inline"):
                words.append(part.content)
    return "".join(words)


@every_name
@pytest.mark.parametrize("frame", ["{}", "- {}", "# {}", "before {} after"])
def test_markdown_shows_names_as_they_are(frame: str, name: str) -> None:
    shown = " ".join(visible(" ".join(name.split())).split())
    wanted = frame.removeprefix("- ").removeprefix("# ").format(shown).strip()
    assert " ".join(text_of(frame.format(markdown(name))).split()) == " ".join(wanted.split())


@every_name
def test_a_cell_of_a_table_is_one_cell(name: str) -> None:
    source = f"| a | b |\n| --- | --- |\n| {markdown(name)} | end |"
    tokens = markdown_reader().parse(source)
    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert cells[1].content == "end"


@every_name
def test_code_is_one_span(name: str) -> None:
    (_, inline, _) = markdown_reader().parse(f"before {code(name)} after")
    kinds = [part.type for part in inline.children or []]
    assert kinds == ["text", "code_inline", "text"]
    assert (inline.children or [])[1].content.strip() == line(name).strip()


@every_name
def test_a_model_card_is_of_one_model(name: str) -> None:
    card = model_cards.card(
        library="peft",
        base=name,
        name=name,
        data=name,
        what="LoRA",
        trainable=3,
        dropout="0",
        encoding=EncodingConfig(f"{{document}}{name}", f"{name}{{summary}}"),
        settings={"seed": name},
        scores=[("system", name), (name, "1.0")],
        notes=[name, f"data.train={name}: 3 left out"],
        example="x = 1",
    )
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    found = yaml.safe_load(head)
    # a name that can't be the id of a model on the hub is not given as one
    assert found.pop("base_model", name) == name
    assert found == {"library_name": "peft", "tags": ["summarization", "sumcirc"]}
    tokens = markdown_reader().parse(body)
    blocks = [
        token.type for token in tokens if token.level == 0 and not token.type.endswith("_close")
    ]
    assert blocks == [
        *("heading_open", "paragraph_open", "paragraph_open", "fence"),
        *("heading_open", "bullet_list_open"),
        *("heading_open", "paragraph_open", "table_open"),
        *("heading_open", "bullet_list_open"),
    ]
    parts = [part.type for token in tokens for part in token.children or []]
    assert set(parts) <= {"text", "text_special", "code_inline", "softbreak"}


# ---- CSV


@every_name
def test_csv_holds_names_that_are_no_formulas(name: str) -> None:
    table = csv_text(["name", "value"], [[name, -1.5], ["plain", None]])
    read = list(csv.reader(io.StringIO(table, newline="")))
    assert read[1:] == [[read[1][0], "-1.5"], ["plain", ""]]
    assert read[1][0] in (name, f"'{name}")
    assert not read[1][0].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_numbers_of_csv_stay_numbers() -> None:
    assert (
        csv_text(["a", "b"], [[-1, "-1.5"], [-2.5e-9, "-1+1"]]) == "a,b\n-1,-1.5\n-2.5e-09,'-1+1\n"
    )


# ---- shell


@every_name
def test_a_printed_command_is_one_command(name: str, tmp_path: Path) -> None:
    script = command("report", name, f"out={name}").replace("sumcirc", "printf '%s\\0'", 1)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    words = done.stdout.decode().split("\0")[:-1]
    assert words == ["report", line(name), f"out={line(name)}"]
    assert not (tmp_path / SENTINEL).exists()


def test_a_setting_quoted_for_hydra_stays_readable() -> None:
    assert word("model.name='a b'") == "\"model.name='a b'\""
    for hostile in ("a'$HOME", "a'`id`", "a'!1", "a'\\", "a'\"b"):
        assert shlex.split(word(hostile)) == [hostile]
        assert word(hostile).startswith("'")


# ---- figures


def test_figures_draw_names_as_they_are(tmp_path: Path) -> None:
    import numpy as np

    from sumcirc.figures.views import draw
    from sumcirc.reporting.kinds import Curve, Curves, View
    from sumcirc.reporting.views.layer_profiles import by_layer

    names = list(NAMES.values())
    losses = [Curve(name, [1, 2], [2.0, 1.0]) for name in names]
    rows = [(name, step, 3.0 - step) for name in names for step in (1, 2)]
    panels = [[Curves("step", "loss", losses)]]
    draw(View("Loss", panels, columns=("arm", "step", "loss"), rows=rows), tmp_path / "a.png")
    curve = (np.ones(2), np.zeros(2), np.ones(2))
    draw(by_layer(dict.fromkeys(names[-9:], curve), "nats"), tmp_path / "b.png")
    for stem in ("a", "b"):
        assert (tmp_path / f"{stem}.png").stat().st_size > 5000
        assert (tmp_path / f"{stem}.csv").is_file()


def test_a_legend_names_all_that_is_drawn(tmp_path: Path) -> None:
    """matplotlib leaves labels that begin with `_` out of legends."""
    from sumcirc.figures.drawing import literal_texts, new_figure, shown_name

    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    axes.plot([1, 2], label=shown_name("_best"))
    axes.set_yscale("log")
    legend = figure.legend()
    literal_texts(figure)
    assert [text.get_text() for text in legend.get_texts()] == [" _best"]
    figure.savefig(tmp_path / "x.png")
    numbers = [label.get_text() for label in axes.get_yticklabels()]
    assert any("10^{0}" in text for text in numbers)
    assert all(label.get_parse_math() for label in axes.get_yticklabels())


@pytest.mark.parametrize("number", ["60.1 [55.9, 64.2]", "0.0016", "+21.7", "-9.5 s", "1,2,3"])
def test_a_number_at_the_beginning_needs_no_escape_in_markdown(number: str) -> None:
    assert markdown(number) == number
