"""The services, which never import each other: `python -m services NAME | all | migrate`."""

SERVICES = ("ingest", "routing", "access", "reporting", "sharing", "notify")
