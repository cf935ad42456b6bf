"""Settings: what files and variables say, checked, and where each of it came from."""
