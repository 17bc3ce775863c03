"""Chapters 2 to 4, the network: from a spectrogram and tokens to logits.

In: log-mel spectrogram (B, M, 3000), token ids (B, S). Out: features (B, 1500, D), logits (B, S, V).

Read ``config`` (the hyperparameters), ``layers``, ``encoder`` and ``decoder``, in this order. ``numerics`` has the
matrix product and the array functions that the layers use, ``weight_names`` the names and shapes of the tensors, and
``weights`` their memory layout. ``engine`` is the interface that the following chapters use.

Walkthrough: sections 4 to 6 and 8 to 10.
"""
