"""Writers: a transcript → txt, vtt, srt, tsv and json.

In: a transcript, ``{"text": …, "segments": […], "language": …}``. Out: the text of each format (``render``) and files
(``files``). Read ``render`` first.

Walkthrough: section 13.
"""
