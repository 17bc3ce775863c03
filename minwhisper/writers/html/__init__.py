"""A transcript as one HTML page: every word with its probability and its place in the recording.

In: a transcript, with words and, if it was made with ``record=True``, with the alternatives of each window; and the
recording, if it is at hand. Out: a page that needs no network and no second file.

* ``data.py``: transcript -> what the page shows, in a compact form
* ``sound.py``: samples -> Opus, and the spectrogram as small images
* ``page.py``: both -> the page
* ``reading.py``: a JSON file -> transcript
* ``document.py``, ``theme.css``: the frame and the colours of any page of this package
* ``view.css``, and the page's program in reading order: ``data.js``, ``text.js``, ``player.js``, ``panel.js``,
  ``edit.js``, ``keys.js``
"""

from .page import DEFAULT_MAX_BYTES, PageOptions, transcript_page
from .reading import read_transcript

__all__ = ["DEFAULT_MAX_BYTES", "PageOptions", "read_transcript", "transcript_page"]
