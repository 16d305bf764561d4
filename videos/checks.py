"""System checks: wrong settings and unsafe servers, each with an id and a hint."""
