"""Chapter 1: any audio or video file becomes samples at 16 kHz, and samples become a log-mel spectrogram.

In: a path, bytes, an open file, or samples. Out: samples (N,) float32 at 16 kHz; log-mel spectrogram (M, T) float32
with M = 80 mel bins (128 for large-v3) and T = 3,000 frames for 30 s.

Read ``load`` and ``mel`` first. Behind ``load`` are ``reader`` (a file opened through FFmpeg's libraries), ``input``
(its bytes), ``tracks``, ``frames``, ``length``, ``timeline``, ``resampling`` and ``sample_store``.

Walkthrough: sections 2 and 3.
"""
