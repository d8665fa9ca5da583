"""Which configuration comes next.

Grid, random, quasi-random and listed points are functions of the study's seed and a trial's place in the sequence
alone; samplers that learn are functions of these and of the results told. So a study killed anywhere goes on as if it
had not been.
"""

from .proposals import PastTrial as PastTrial
from .proposals import Proposal as Proposal
from .search import Search as Search
from .seeds import stable_hash as stable_hash
