"""`python -m demo`: the main journey on real servers and real DICOM objects, every step verified."""
