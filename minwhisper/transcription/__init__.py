"""Chapters 9 and 10: windows become segments and words, and whole recordings become transcripts.

In: samples (N,) at 16 kHz and options. Out: segments with start and end in seconds, text,
tokens and, on request, words.

Read the loop over windows first: ``sequential`` and ``windows`` (prompts and fallback temperatures), then ``segments``.
``words``, ``alignment_tools``, ``alignment`` and ``word_timestamps`` find the times of words. ``chunking`` (cutting at
silence) and ``batching`` decode several windows together. ``transcribe`` puts it all together; ``options`` has the
options and ``model`` the part of a model that this chapter uses. ``aligning`` finds the times of a text that is known,
with ``known_text``, ``matching`` and ``found_words``.

The same options give the tokens, times and text of openai-whisper, with these deliberate differences:

* Invalid options are rejected before any work starts: a language that an English-only model does not have, a beam
  search at a temperature, clips that overlap or begin after the end of the audio (where openai-whisper never returns).
* Sampling uses a NumPy generator, with seed 0 by default, so that the same audio always gives the same text.
* Each window advances by at least one frame.
* ``suppress_tokens=""`` still suppresses tokens that only occur in prompts; ``max_initial_timestamp=0`` means 0.
* Text before the first timestamp of a window starts with the window, not before it.
* An ``initial_prompt`` that is carried from window to window stays at the start of each prompt, even if it fills all
  of it; a longer one is rejected.
* Subtitles stay valid whatever the text contains (a line break, an arrow, a NUL, overlapping words); WebVTT escapes
  ``&`` and ``<``.
* Precision is chosen when a model is loaded (``dtype``), not when it transcribes (``fp16``).

Walkthrough: sections 12 and 13.
"""
