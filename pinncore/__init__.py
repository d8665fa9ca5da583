"""One shared core for training physics-informed neural networks, alone or packed.

import pinncore
result = pinncore.train(settings=pinncore.TrainSettings(adam_epochs=500, lbfgs_iterations=500))
result.metrics["rel_l2"]
"""

from .checkpoint import MemberState as MemberState
from .checkpoint import read_checkpoint as read_checkpoint
from .checkpoint import write_checkpoint as write_checkpoint
from .data import FieldData as FieldData
from .data import load_data as load_data
from .data import read_csv_tables as read_csv_tables
from .data import save_data as save_data
from .errors import CheckpointError as CheckpointError
from .errors import DataError as DataError
from .errors import PinnError as PinnError
from .errors import SettingError as SettingError
from .errors import WeightsError as WeightsError
from .optim import StopReason as StopReason
from .problems import NonlocalStrain as NonlocalStrain
from .problems import NonlocalStrainSettings as NonlocalStrainSettings
from .results import MemberResult as MemberResult
from .settings import TrainSettings as TrainSettings
from .trained import TrainedNetwork as TrainedNetwork
from .training import Member as Member
from .training import Pack as Pack
from .training import pack_key as pack_key
from .training import train as train
