"""Measurements side by side with peers, in one run: `make bench`, or `make bench B=P1` for one.

A ratio counts, a lone number does not: the machine may be slow or busy, but it is so for both sides.
Nothing here is a timed test; tests check that results are right, the bench says how fast.
"""
