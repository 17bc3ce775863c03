"""The layers of ``model``, scheduled for speed on a CPU and on a GPU.

``model`` defines the computation. This folder decides its order, the size of the pieces, the thread or kernel that
computes each piece, and the buffer for its result. Inputs and outputs are those of ``model.engine``: mel
(B, M, frames) -> features (B, T, D), tokens (R, S) -> logits (R, S, V). Results are the same up to rounding, and tests
compare each function with the readable one that it replaces. The chapters above never import this folder; the
readable layers compute everything if ``plain=True``.

Read ``devices`` (device names, and the diagnosis of GPUs that cannot be used), then ``fast.cpu``, then ``fast.gpu``.

Walkthrough: sections 14 and 15.
"""
