"""Ways to compute loss and gradient of the members of a case, one file each.

Each file has `build(case, name, dtype, threads, engine)` and imports only the library that it compares, because such
libraries set global flags and start their own threads.
"""
