"""Studies from Python: run a study, submit it as a job, open it to read and judge its results or to continue it.

    study = sweeps.run("examples/quickstart.yaml")
    study.best()
    study.top()
    study.sql("SELECT init, min(rel_l2) AS best FROM trials GROUP BY init").to_pandas()

Mistakes are raised as subclasses of `sweeps.SweepError`. A failed trial raises nothing: it is a row of the tables.
"""

import sys
import warnings

from .assessment import Assessment as Assessment
from .pages import Picture as Picture
from .pages import Report as Report
from .running import Studies as Studies
from .running import open as open
from .running import run as run
from .running import submit as submit
from .study import StoppedError as StoppedError
from .study import Study as Study
from .traces import compare_traces as compare_traces

if "IPython" in sys.modules:  # tqdm, which comes with Optuna, asks for widgets that nothing here uses
    warnings.filterwarnings("ignore", message="IProgress not found")
