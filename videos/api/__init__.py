"""HTTP: JSON under /api/, and the page. Both ways (the express lane and Django) call the functions of `operations`."""
