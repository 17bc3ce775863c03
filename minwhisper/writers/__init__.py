"""A transcript as text: ``render`` makes txt, vtt, srt, tsv and json of it, ``files`` writes them.

Walkthrough: section 13.
"""
