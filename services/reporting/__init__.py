"""Keeps what is written about a case."""
