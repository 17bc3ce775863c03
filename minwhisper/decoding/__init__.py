"""Chapters 7 and 8: logits become the tokens of one window of 30 s.

In: features (B, 1500, D) and options. Out: a :class:`~minwhisper.decoding.decode.DecodingResult` per window.

Read ``logit_filters`` (what suppresses tokens), ``search`` (greedy, sampling, beam search) and ``decode``; ``options``
holds what can be asked for.

Walkthrough: section 11.
"""
