"""Packed optimisers: one state a member, one batched evaluation moves them all."""

from .adam import AdamSettings as AdamSettings
from .adam import PackedAdam as PackedAdam
from .lbfgs import LBFGSSettings as LBFGSSettings
from .lbfgs import PackedLBFGS as PackedLBFGS
from .stop import StopReason as StopReason
