"""The report of a study, one self-contained HTML page."""

from .overview import write_picture as write_picture
from .report import Written as Written
from .report import write_report as write_report
