"""The views. Each parses the request, calls one function, and renders the answer."""
