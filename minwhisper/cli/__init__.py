"""The command ``minwhisper``.

In: command-line arguments. Out: text on standard output, messages on standard error, files, and the exit status.

Read ``main`` (the subcommands) and ``transcribe`` first; ``arguments`` declares the options of ``transcribe`` and
``request`` checks them. ``info``, ``parity``, ``doctor`` (``trace`` and ``compare``), ``bench`` and ``completion`` are
subcommands; ``help`` lays out ``--help``, and ``interrupts`` handles Ctrl-C and other signals.
"""
