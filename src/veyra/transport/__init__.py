"""Bytes to and from a provider, without meaning: what is said in them is the dialects' business."""
