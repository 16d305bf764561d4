"""The views: each parses, calls one function, renders."""
