"""The layers of :mod:`minwhisper.model`, scheduled for the cores and caches of a CPU.

Read ``engine`` first, then ``encoder`` and ``decoder``, and what they use: ``layers``, ``panels`` (matrix products of a
few rows), ``cache``, ``weights`` (their layout in memory) and ``threads``.

Walkthrough: section 15.
"""
