"""Chapters 9 and 10: windows become segments and words, and whole recordings become transcripts.

In: audio of any length and options. Out: segments with times, each with its text, tokens and words.

Read ``transcribe`` and ``sequential`` (window after window) first, then ``batching`` and ``chunking`` (windows decoded
together, cut at silence), ``windows`` (prompts and fallback temperatures), ``segments``, ``words``, ``alignment`` and
``word_timestamps``.

Walkthrough: sections 12 and 13.
"""
