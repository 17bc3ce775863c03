"""Chapter 5: the name of a model becomes its weights.

In: a published name, a repository of the Hugging Face hub, or a folder. Out: a configuration and a nested mapping of
arrays, each checked for its name, shape and values.

Read ``sources`` (what a name means) and ``load`` first. Between them: ``files``, ``hub``, ``checksums``,
``configuration``, the file formats ``tensor_files``, ``ctranslate2`` and ``storage``, and ``tensor_matching``.

Walkthrough: section 7.
"""
