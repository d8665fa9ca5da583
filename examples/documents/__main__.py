"""Run the scripts of this folder and print their tables; with --write, bring docs/documents.md up to date.

python examples/documents                 # all
python examples/documents fizbuz          # some
"""

import argparse
import importlib
import re
import sys
from pathlib import Path

from table import Row, markdown

PAGE = Path(__file__).parents[2] / "docs" / "documents.md"
DOCUMENTS = {
    "Slides: TensorFlow and PyTorch": (
        "slides_adam",
        "slides_first_epoch",
        "slides_injection",
        "slides_experiment_1",
        "slides_experiment_2",
        "slides_scale",
        "slides_predictions",
    ),
    "Fizbuz in NumPy and PyTorch": ("fizbuz",),
    "Keras and PyTorch": ("keras_torch",),
    "Overview of the frameworks": ("overview_torch", "overview_jax", "overview_tensorflow"),
    "Lecture on autograd": ("lecture_descent", "lecture_graph", "lecture_neurons", "lecture_autograd"),
}
SCRIPTS = [script for scripts in DOCUMENTS.values() for script in scripts]


def written(page: str, script: str, rows: list[Row]) -> str:
    """Return the page with the table of a script replaced, which stands below the line that names the script."""
    pattern = rf"(?<=\[{script}\.py\]\(\.\./examples/documents/{script}\.py\)\n\n)(\|.*\n)*"
    return re.sub(pattern, lambda _: markdown(rows) + "\n", page)


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python examples/documents", description=__doc__.partition("\n")[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}; all if none is named")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/documents.md")
    chosen = parser.parse_args()
    unknown = [script for script in chosen.scripts if script not in SCRIPTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}: choose of {', '.join(SCRIPTS)}")
    failed = 0
    for script in chosen.scripts or SCRIPTS:
        print(f"\n{script}")
        try:
            rows = importlib.import_module(script).rows()
        except ModuleNotFoundError as missing:
            print(f"left out: pip install {missing.name}")
            continue
        print(markdown(rows))
        failed += sum(not row.holds for row in rows)
        if chosen.write:
            PAGE.write_text(written(PAGE.read_text(), script, rows))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
