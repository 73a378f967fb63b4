"""Routing: facilities, transmission models, endpoint rules, and the placing of studies as cases."""
