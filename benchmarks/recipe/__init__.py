"""The known recipe: save the like row, INCR a key, and every minute write each key's value over its row.

`VideoLike.objects.create`, `cache.incr`, and a flush that lists the keys with KEYS and then takes one GET and one
UPDATE for each, at READ UNCOMMITTED.
"""
