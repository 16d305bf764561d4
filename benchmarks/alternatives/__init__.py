"""What users would pick instead, each a Django project in one file, and the ceilings: the least that Python can do."""
