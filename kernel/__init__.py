"""The words everyone shares. Pure: imports nothing of ours, does no I/O."""
