"""Rewrites of a graph, one per file; `pipeline.py` orders them."""
