"""How the mathematics of the chapters is scheduled for speed. Chapters never import it.

The layers say what is computed; here it is said in which order, in pieces of which size, on which thread and into which
buffer, so that a processor's caches and cores are used. Every function has the name of the readable one that it stands
for and gives the same numbers but for rounding, and a test holds it to that.
"""
