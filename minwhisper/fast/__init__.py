"""How the mathematics of the chapters is scheduled for speed. Chapters never import it.

The layers say what is computed; here it is said in which order, in pieces of which size, on which thread or kernel and
into which buffer, so that a processor's caches and cores, or a GPU's memory, are used. What stands for a readable
function says so, gives the same numbers but for rounding, and is held to that by a test.
"""
