"""Chapters 2 to 4: the network. A spectrogram and tokens become logits.

In: log-mel spectrogram (B, M, 3000), token ids (B, S). Out: features (B, 1500, D), logits (B, S, V).

Read ``config`` (the hyperparameters), ``layers``, ``encoder`` and ``decoder`` in this order. ``engine`` is the
interface through which the following chapters use them; ``weight_names`` and ``weights`` say which tensors there are.

Walkthrough: sections 4 to 6 and 8 to 10.
"""
