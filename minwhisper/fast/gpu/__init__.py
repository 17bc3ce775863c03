"""The layers of :mod:`minwhisper.model`, scheduled for a GPU: CUDA kernels, cuBLAS and CUDA graphs, through CuPy.

Read ``engine`` first, then ``encoder``, ``decoder`` and ``steps`` (the captured graph of a decoder step), and what they
use: ``kernels``, ``layers``, ``products``, ``cache``, ``table``, ``choices``; ``memory`` foretells what a model needs.

Walkthrough: section 14.
"""
