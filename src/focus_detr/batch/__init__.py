"""Millions of pictures: in blocks, on one machine or many, each picture with exactly one result."""
