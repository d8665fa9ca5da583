from .reading import read_trace as read_trace
from .results import Comparison as Comparison
from .trace import Trace as Trace
from .writing import Recorder as Recorder
from .writing import record as record
