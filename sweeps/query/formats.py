"""The formats of files that tables are written to. Nothing slow is imported: the command line lists them."""

from enum import StrEnum


class FileFormat(StrEnum):
    """Formats of files that tables are written to."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"
    XLSX = "xlsx"
