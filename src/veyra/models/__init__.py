"""Backends: the contract of ADR-0001, the audit gate in front of every one of them, and the ways to get one."""
