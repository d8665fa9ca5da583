"""The samplers: the rules that choose the next configuration.

Grid, random, quasi-random and listed points are functions of the study's seed and of a trial's place in the sequence
only; those of samplers that learn also depend on the results reported. A study that was killed therefore resumes with
the trials it would have had.
"""

from .proposals import PastTrial as PastTrial
from .proposals import Proposal as Proposal
from .proposals import Search as Search
from .search import search_of as search_of
from .seeds import stable_hash as stable_hash
