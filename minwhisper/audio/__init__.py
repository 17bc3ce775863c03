"""Chapter 1: an audio or video file → samples at 16 kHz → log-mel spectrogram.

In: a path, bytes, an open file, or an array. Out: samples (N,) float32 at 16 kHz; log-mel spectrogram (M, T) float32,
with M = 80 mel bins (128 for large-v3) and T = 3,000 frames for 30 s.

Files in reading order:

1. ``load``: audio → samples, all at once or piece by piece.
2. ``mel``: samples → log-mel spectrogram.
3. ``mel_stream``: the same for a long recording, window by window.
4. ``speech``: log-mel spectrogram → the stretches that may contain speech, for ``vad_filter``.

The steps by which ``load`` reads a file:

5. ``reader``: from the file to its samples; uses the files below.
6. ``input``: opens a path, bytes, a file or standard input.
7. ``tracks``: selects an audio track.
8. ``track_decoder``: decodes the packets of the track and records damage.
9. ``timeline``: places decoded frames by their timestamps.
10. ``length``: compares the decoded audio with the length that the file states.
11. ``resampling``: converts frames to mono samples at 16 kHz.
12. ``sample_store``: stores the samples, in memory or in a temporary file.

A truncated file is an error if its format states how much audio it has (WAV, AIFF, AU, CAF, FLAC, MP4, Matroska, WebM,
MP3 with a Xing header). Other formats (Ogg, raw AAC, AMR, WMA …) are read to the end of the file, with a warning if the
last packet is damaged.

Walkthrough: section 2.
"""
