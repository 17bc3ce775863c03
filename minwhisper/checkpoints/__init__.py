"""Chapter 5: from a model's name to its weights.

In: the name of a published model, a repository of the Hugging Face hub, or a folder. Out: a configuration and nested
dictionaries of arrays, each checked for its name, shape and values.

Start with ``sources`` (from a name to its files) and ``load`` (from these files to the weights). The steps between
them: ``files``, ``hub`` and ``checksums`` find, download and verify the files; ``tensor_files``, ``ctranslate2`` and
``storage`` read their tensors; ``configuration`` and ``tensor_matching`` check them against what the model expects.
``shared`` keeps the weights in a file that several processes map, so that they are in memory once.

A checkpoint is untrusted input: sizes are bounded before memory is allocated, all values must be finite, and files with
a known sha256 (the weight packages, large files of the hub) must match it. To replace a model in use, write the new
file beside the old one and rename it.

Walkthrough: section 7.
"""
