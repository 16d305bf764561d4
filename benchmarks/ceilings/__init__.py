"""The ceilings: the least that Python can do with the service's own scripts, through the standard Redis client."""
