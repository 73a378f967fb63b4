"""Ingest hears no facts: what it stores depends on nobody."""
