"""The model on the cores and caches of a CPU, in float32.

Three ideas. Each thread calls single-threaded BLAS, and threads synchronise as rarely as possible. Work is cut into
tiles that fit into a core's cache, and every buffer is reused. The weights of decoder steps are stored as panels, since
a step takes as long as reading them does.

Read in this order:

- ``engine``: the engine for ``device="cpu"``, ``dtype="float32"``
- ``layers``: the layers on one core, in place or into buffers
- ``encoder``: mel (B, M, frames) -> features (B, T, D), tile by tile on several threads
- ``decoder``, ``cache``: tokens (R, S) and a cache -> logits (R, S, V) and the extended cache, for several caches
- ``panels``: matrix products with few rows
- ``weights``: the memory layout into which a checkpoint is read
- ``threads``: the thread pool, the workspace, and the number of BLAS threads

Walkthrough: section 15.
"""
