"""Equations in SymPy: what a user writes, the derivatives that it needs, and what engines evaluate."""
