"""script/soak: the service under load and faults for minutes, then an audit of everything that it acknowledged."""
