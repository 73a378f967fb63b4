"""Ingest receives studies durably and hands out what access allows."""
