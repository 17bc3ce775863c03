"""Transcribe a corpus over many machines, on Dask."""
