"""The parity laboratory: where two trainings part, and which one convention makes the difference vanish.

A trace is what another program recorded of its training. `compare.compare` replays it here, measures rounding, finds
the first quantity, step and layer beyond it, and tries explanations one at a time.

Names are imported on first use.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
