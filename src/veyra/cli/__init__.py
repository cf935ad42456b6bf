"""The `veyra` command: one module for each command, loaded when it is chosen."""
