"""Utilities that every chapter uses.

``backend`` selects NumPy or CuPy, ``finite`` detects NaN and infinity, ``untrusted`` reads JSON, integers and paths
from untrusted input, ``option_checks`` validates option values, ``atomic_write`` writes complete files or none,
``console`` prints to the terminal, ``edits`` runs functions with a mistake edited into their source.
"""
