"""`python -m benchmarks.alternatives COMMAND ...`: manage.py of the alternatives; `flush` is the recipe's flush."""

import sys

import django
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    if sys.argv[1] == "flush":
        django.setup()
        from benchmarks.alternatives import recipe

        recipe.flush_command(sys.argv[2:])
    else:
        execute_from_command_line(["manage.py", *sys.argv[1:]])
