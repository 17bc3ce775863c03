"""The walkthrough: an executable tutorial, and the program that runs it. The chapters import nothing from here.

In: ``walkthrough.md``, prose with cells of Python. Out: the same text in a terminal, as an HTML page, as a notebook, or
rewritten with new outputs and pictures. The files, in reading order:

* ``text.py``: Markdown -> sections of prose, listings and cells, and back
* ``run.py``: cells -> their outputs, compared with those in the text by ``compare_outputs.py``
* ``drawings.py``: arrays -> pictures, in the style of ``drawing.py``; ``overview.py``: the picture in the README
* ``here.py``: the picture of the architecture, and the map at the head of each section
* ``widgets.py``: a model and a recording -> the values of the page's interactive figures; ``widgets.js`` draws them
* ``page.py``: text and pictures -> one HTML file; ``markup.py``: Markdown and code -> HTML; ``formulas.py``: TeX ->
  MathML; ``figures.py``: the interactive figures
* ``speech.py``: the second recording of the text, with its transcript
* ``terminal.py``: the text in a terminal; ``plain_formulas.py``: TeX -> Unicode
* ``notebook.py``: text and pictures -> one notebook
* ``command.py``: the command ``minwhisper walkthrough``
"""
