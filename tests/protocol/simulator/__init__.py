"""A simulator of the real code: one seed makes one run."""
