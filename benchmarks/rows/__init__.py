"""Counting in the database alone: `F("count") + 1` in the request, or JOIN + COUNT over like rows when read."""
