"""django-hitcount, the real package, with its own AJAX view as its manual sets it up."""
