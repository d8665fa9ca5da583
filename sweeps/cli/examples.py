"""Examples of every command, shown at the end of its `--help` and in docs/commands.md.

They tell one story: the study file widths.yaml, whose study is in runs/widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

COMMENT: Final = "  # "

# by the words that call a command; those of no word are of `pinnsweep --help`
EXAMPLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "": """
            pinnsweep init widths.yaml    # write a study file to change
            pinnsweep run widths.yaml     # train its trials; again: resume
            pinnsweep top runs/widths     # the best configurations
        """,
        "init": """
            pinnsweep init widths.yaml                  # a study of the bundled strain problem
            pinnsweep init heat.yaml --problem heat     # a study of another shipped problem
            pinnsweep init reaction                     # reaction.py for an equation, reaction.yaml
            pinnsweep init reaction.py:Reaction         # the same with a class of this name
        """,
        "problem": """
            pinnsweep problem                           # the problems that come with the package
            pinnsweep problem burgers                   # equation, settings and loss terms of one
            pinnsweep problem reaction.py:Reaction      # of your own class
        """,
        "validate": """
            pinnsweep validate widths.yaml
            pinnsweep validate widths.yaml --set search.trials=200    # as if the file said so
        """,
        "plan": """
            pinnsweep plan widths.yaml                             # trials, packs, memory, time
            pinnsweep plan widths.yaml --set search.trials=200     # what would 200 trials cost?
            pinnsweep plan widths.yaml --no-calibrate              # at once, without the time
        """,
        "schema": """
            pinnsweep schema    # redirected to study.schema.json, an editor can read it
        """,
        "run": """
            pinnsweep run widths.yaml                    # train, or resume after a crash
            pinnsweep run widths.yaml --trials 128       # until the study has 128 trials
            pinnsweep run runs/widths                    # resume without the file
            pinnsweep run widths.yaml --set train.epochs=500 --branch widths-2
        """,
        "stop": """
            pinnsweep stop runs/widths --wait    # until its work is saved
        """,
        "extend": """
            pinnsweep extend runs/widths 32    # 32 trials more than it has
        """,
        "retry": """
            pinnsweep retry runs/widths          # every trial that failed
            pinnsweep retry runs/widths 3 17     # these two
        """,
        "status": """
            pinnsweep status                 # all studies in runs/
            pinnsweep status runs/widths     # one study
            pinnsweep status uni/1           # a job, as `jobs` lists it
        """,
        "list": """
            pinnsweep list
            pinnsweep list --root /scratch/me/runs    # studies elsewhere
        """,
        "query": """
            pinnsweep query runs/widths .tables           # also .schema, or ".schema trials"
            pinnsweep query runs/widths "SELECT * FROM by_config LIMIT 5"
            pinnsweep query runs/a runs/b "SELECT study, min(rel_l2) FROM trials GROUP BY 1"
            pinnsweep query runs/widths "FROM best" -o best.parquet
        """,
        "export": """
            pinnsweep export runs/widths -o tables                       # five CSV files
            pinnsweep export runs/widths -o tables --format parquet
            pinnsweep export runs/a runs/b --table trials -o trials.xlsx
            pinnsweep export runs/widths --sql "SELECT trial, loss FROM curves" -o loss.csv
        """,
        "report": """
            pinnsweep report runs/widths                      # writes runs/widths/report.html
            pinnsweep report runs/widths -o widths.html       # elsewhere
            pinnsweep report runs/widths --figures figures    # every figure as a file, too
        """,
        "dashboard": """
            pinnsweep dashboard runs/widths --open      # until Ctrl-C
            pinnsweep dashboard runs/widths --port 0    # on a free port
        """,
        "top": """
            pinnsweep top runs/widths                   # the ten best configurations
            pinnsweep top runs/widths -n 3 --by loss    # by another column
            pinnsweep top runs/a runs/b                 # of two studies together
        """,
        "effects": """
            pinnsweep effects runs/widths
            pinnsweep effects runs/widths --by seconds    # what makes a trial slow
        """,
        "compare": """
            pinnsweep compare runs/a runs/b                    # two studies
            pinnsweep compare runs/widths/3 runs/widths/7      # two configurations of a study
            pinnsweep compare runs/a/best runs/b/best          # the best of each
        """,
        "track": """
            pinnsweep track runs/widths --to tensorboard
            pinnsweep track runs/widths --to mlflow --uri http://localhost:5000
            pinnsweep track runs/widths --to wandb --project pinns --mode offline
        """,
        "parity": """
            pinnsweep parity trace.npz                              # against our replay of it
            pinnsweep parity mine.npz theirs.npz                    # two traces
            pinnsweep parity trace.npz --set adam_convention=keras  # with a setting stated
            pinnsweep parity trace.npz --report parity.html         # a page with maps and curves
        """,
        "show": """
            pinnsweep show runs/widths best
            pinnsweep show runs/widths 3 --json    # every setting, too
        """,
        "error-budget": """
            pinnsweep error-budget runs/widths best
            pinnsweep error-budget runs/widths 3 --replicate 2    # another seed of it
        """,
        "retrain": """
            pinnsweep retrain runs/widths 3                     # the same numbers, bit for bit?
            pinnsweep retrain runs/widths 3 --engine torch      # by another engine
            pinnsweep retrain runs/widths 3 -o network.npz      # and keep its network
        """,
        "predict": """
            pinnsweep predict runs/widths best points.csv                  # CSV to the terminal
            pinnsweep predict runs/widths best points.csv -o strain.csv
            pinnsweep predict runs/widths 3 points.csv --gradient          # with derivatives
        """,
        "weights": """
            pinnsweep weights runs/widths best -o network.onnx
            pinnsweep weights runs/widths 3 -o start.npz --epoch 0    # its initial weights
        """,
        "submit": """
            pinnsweep submit widths.yaml --to local            # this machine, in the background
            pinnsweep submit widths.yaml --to uni              # a profile of clusters.yaml
            pinnsweep submit widths.yaml --to uni --dry-run    # only show the job
        """,
        "jobs": """
            pinnsweep jobs        # of all places
            pinnsweep jobs uni    # of one
        """,
        "logs": """
            pinnsweep logs uni/1       # what the job printed so far
            pinnsweep logs uni/1 -f    # until it ends
        """,
        "cancel": """
            pinnsweep cancel uni/1
            pinnsweep cancel uni/1 --grace 120    # two minutes to save its work
        """,
        "doctor": """
            pinnsweep doctor              # this machine
            pinnsweep doctor uni --run    # a place, with a test job
        """,
        "delete": """
            pinnsweep delete runs/widths-2                 # asks first
            pinnsweep delete runs/a runs/b --yes           # does not
        """,
        "compact": """
            pinnsweep compact runs/widths
        """,
        "gc": """
            pinnsweep gc --dry-run      # what could go, in all studies
            pinnsweep gc runs/widths    # remove it, of one study
        """,
        "data check": """
            pinnsweep data check gauss.csv lrb.csv btb.csv
            pinnsweep data check gauss.csv lrb.csv btb.csv --elocal-factor 10 --length m
            pinnsweep data check plate.mat --increment 164
        """,
        "data build": """
            pinnsweep data build strb100 --increment 164
            pinnsweep data build strb100 --increment 100 --increment 164 --mesh 80 -o tables
        """,
    }
)


def examples_of(words: str) -> str:
    """Return the examples of a command, a line each, their comments below one another; empty where it has none."""
    lines = EXAMPLES.get(words, "").strip().splitlines()
    pairs = [(command.strip(), comment) for command, _, comment in (line.partition(COMMENT) for line in lines)]
    length = max((len(command) for command, comment in pairs if comment), default=0)
    return "\n".join(f"{command:<{length}}{COMMENT}{comment}" if comment else command for command, comment in pairs)
