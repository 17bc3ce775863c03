"""Writers: a transcript → txt, vtt, srt, tsv, json, jsonl, and word-level formats.

In: a transcript, ``{"text": …, "segments": […], "language": …}``. Out: the text of each format (``render``, with
``subtitles`` and ``words``) and files (``files``). Read ``render`` first.

Walkthrough: section 13.
"""
