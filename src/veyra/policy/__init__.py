"""Decisions as pure functions of values: time and chance are arguments, nothing is asked and nothing is sent."""
