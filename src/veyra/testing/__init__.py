"""What tests of code that calls models need: faults, a server that has them, and more; each in its own module."""
