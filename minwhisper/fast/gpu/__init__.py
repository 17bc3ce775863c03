"""The model on a GPU: our own CUDA kernels, cuBLAS and CUDA graphs, through CuPy.

Three ideas. Everything around large matrix products is one kernel per layer, because small operations cost mainly
their launches and transfers. A decoder step is one CUDA graph that serves every window, beam and batch: everything that
changes between steps is in a table in the GPU's memory. Memory is predicted from the configuration, so a model fits a
2 GB card.

Read in this order:

- ``engine``: the engine for weights on a GPU, float32 or float16
- ``layers``, ``cublas``, ``encoder``: mel (B, M, frames) -> features (B, T, D)
- ``table``, ``cache``: the rows of a step (one token of one sequence each), and the addresses of their keys and values
- ``decoder``, ``buffers``: rows -> logits (R, V)
- ``sampling``: logits -> the next tokens, chosen on the GPU
- ``runner``, ``graph``: whole steps and prompts, captured and replayed
- ``kernels``, ``kernels.cu``: the kernels, as Python methods and as CUDA C++
- ``memory``, ``out_of_memory``: the memory that a model needs, and messages if there is not enough

Walkthrough: section 14.
"""
