"""Wire formats: each dialect turns a `Request` into bytes and bytes into `Event`s. No I/O, no clock, no async."""
