"""Veyra: one interface to every model, and every call on the record."""
