"""The report of a study, one self-contained HTML page."""

from .whole import Written as Written
from .whole import write_report as write_report
