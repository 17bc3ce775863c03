"""Chapters 9 and 10: windows become segments and words, and whole recordings become transcripts.

In: samples (N,) at 16 kHz and options. Out: segments with start and end in seconds, text,
tokens and, on request, words.

Read the loop over windows first: ``sequential`` and ``windows`` (prompts and fallback temperatures), then ``segments``.
``words``, ``alignment_tools``, ``alignment`` and ``word_timestamps`` find the times of words. ``chunking`` (cutting at
silence) and ``batching`` decode several windows together. ``transcribe`` puts it all together; ``options`` has the
options and ``model`` the part of a model that this chapter uses.

Walkthrough: sections 12 and 13.
"""
