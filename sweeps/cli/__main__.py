import sys
from pathlib import Path

from . import main

# `-m` lets Python import from the current folder before all else; only a folder with this code is meant.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[2]:
    del sys.path[0]
main()
