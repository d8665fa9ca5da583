"""Ways to compute loss and gradient of the members of a case, one file each.

Each file has `build(case, dtype, threads, engine)`; only what it compares is imported there, because libraries of this
kind set global flags and start threads of their own.
"""
