"""The walkthrough: a tutorial that is a program, and what runs it. The chapters never import any of this.

``walkthrough.md`` is the text. :mod:`~minwhisper.walkthrough.text` reads it, :mod:`~minwhisper.walkthrough.run` runs
it and compares what comes out with what it shows (:mod:`~minwhisper.walkthrough.compare_outputs`),
:mod:`~minwhisper.walkthrough.drawings` makes its pictures, :mod:`~minwhisper.walkthrough.page` a page of HTML, and
:mod:`~minwhisper.walkthrough.command` is ``minwhisper walkthrough``.
"""
