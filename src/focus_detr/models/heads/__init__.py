"""Heads: what is said of every query, from the decoder's states."""
