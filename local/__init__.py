"""What starts the whole system on one machine: a laptop, the demo, the tests. A pod has none of it.

`system` is the system and `embedded` its real servers; `pki` makes certificates and keys, `processes` keeps
the children together, `launch` becomes one. `python -m local` runs it all.
"""
