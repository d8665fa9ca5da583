"""Finite elements: the discrete form of the equation, and the solver that makes reference data."""
