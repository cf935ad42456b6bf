"""Recorded calls, made again: their bytes decoded by today's code, or their questions put to another backend."""
