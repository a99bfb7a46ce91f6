"""Kernels whose GLSL is written for the graph at hand.

source.py     the text of one kernel: buffers, push constants, lines in single-assignment form
index.py      positions in tensors: coordinates and flat offsets, each derived from the other when needed
functions.py  GLSL functions that are more careful than the built-in ones
fusion.py     operators as functions of an output position, computed where they are used or written to memory
rows.py       kernels that reduce: a workgroup or an invocation per row
"""
