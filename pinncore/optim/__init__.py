"""Packed optimisers: one state per member; one batched evaluation advances all members."""

from .first_order import FirstOrderSettings as FirstOrderSettings
from .first_order import PackedFirstOrder as PackedFirstOrder
from .held_out import LOOK_EVERY as LOOK_EVERY
from .held_out import BestHeldOut as BestHeldOut
from .lbfgs import LBFGSSettings as LBFGSSettings
from .lbfgs import PackedLBFGS as PackedLBFGS
from .scipy_lbfgsb import PackedScipy as PackedScipy
from .scipy_lbfgsb import ScipySettings as ScipySettings
from .second_stage import SecondStage as SecondStage
from .stop import StopReason as StopReason
