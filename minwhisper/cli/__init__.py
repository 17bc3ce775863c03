"""The command ``minwhisper``.

Read ``main`` first, which has the subcommands; ``arguments``, ``request`` and ``transcribe`` are one of them.
"""
