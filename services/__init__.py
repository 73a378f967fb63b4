"""The services, which never import each other: `python -m services NAME` runs one."""
