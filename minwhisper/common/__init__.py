"""Foundations that every chapter uses: arrays on a device, checks of what comes from outside, files, the terminal.

Files: ``backend`` (NumPy or CuPy), ``finite`` (NaN and infinity), ``untrusted`` (JSON, integers and paths that nobody
has checked), ``option_checks`` (option values), ``atomic_write`` (a file is complete or absent), ``console``.
"""
