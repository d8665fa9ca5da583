"""What the GPU kernel takes: widths, and the memory of a block. Nothing here loads a compiler."""

from __future__ import annotations

from typing import Final, NamedTuple

WARPS: Final = 2  # of a block, which share its weights
TILES: Final = 5  # of 32 points that a warp takes, one after the other
BLOCK_POINTS: Final = 32 * WARPS * TILES  # fixed, so that sums do not depend on the pack
ITEM_BYTES: Final = {"float32": 4, "float64": 8}
WIDEST: Final = {"float32": 24, "float64": 8}  # beyond, channels of a layer do not fit into a thread's registers
LEAST_SHARED: Final = 99 * 1024  # bytes that a block may have on every device since 2020
FEW_BLOCKS: Final = 3  # on a processor; with fewer, the tape goes to device memory


class Shape(NamedTuple):
    """What the memory of a block depends on: width (a whole number of four), sizes of the equation, bytes of a number.

    `keeps_values`: the tape holds channels after the activation, from which its derivatives follow.
    """

    width: int
    inputs: int
    outputs: int
    channels: int
    item: int
    residuals: int = 1
    keeps_values: bool = True

    def shared_bytes(self, depth: int, *, goes_back: bool = True, device_tape: bool = False) -> int:
        """Return the shared memory of a block for `depth` hidden layers, laid out as network.cuh does."""
        h = self.width
        weights = (self.inputs + 1) * h + (depth - 1) * (h + 1) * h + fours(self.outputs * (h + 1))
        layers = (2 if device_tape else depth) + (not self.keeps_values)
        points = 32 * (self.outputs * self.channels + self.inputs)
        warp = layers * h * 32 * self.channels + points + weights if goes_back else 0
        return max(self.item * (weights + WARPS * warp), 8 * WARPS * self.residuals)

    def tape_bytes(self, depth: int) -> int:
        """Return the device memory of the tape of a block."""
        return self.item * WARPS * depth * self.width * 32 * self.channels


def fours(count: int) -> int:
    """Return the whole number of fours that `count` is filled up to."""
    return -(-count // 4) * 4


def blocks_of(points: int) -> int:
    """Return the number of blocks that take the points of a network."""
    return -(-points // BLOCK_POINTS)


def reason_against(width: int, depth: int, sizes: tuple[int, int, int], dtype: str, activation: str) -> str | None:
    """Return why the kernel does not take a network, None where it does; `sizes` are inputs, outputs, channels."""
    if width > WIDEST[dtype]:
        return f"width {width} is more than {WIDEST[dtype]}, the most that the GPU kernel takes in {dtype}"
    shape = Shape(fours(width), *sizes, ITEM_BYTES[dtype], 1, activation == "tanh")
    if shape.shared_bytes(depth, device_tape=True) > LEAST_SHARED:
        return f"{depth} layers of {width} units are more than the GPU kernel keeps in {LEAST_SHARED // 1024} KiB"
    return None
