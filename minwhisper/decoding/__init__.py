"""Chapters 7 and 8: logits become the tokens of one window of 30 s.

In: the features of windows (B, T, D), T = 1,500, and options. Out: a
``DecodingResult`` per window, with its tokens and text.

Read ``logit_filters`` (suppressing tokens), ``search`` (greedy search, sampling, beam search) and ``decode`` (a window
from prompt to text). ``options`` has the options, and ``keywords`` their types for editors.

Walkthrough: section 11.
"""
