"""The parity laboratory: where two trainings part, and which one convention makes the difference vanish.

A trace is what another program recorded of its training. `compare` replays it here, measures rounding, finds the first
quantity, step and layer beyond it, and tries explanations one at a time.
"""
