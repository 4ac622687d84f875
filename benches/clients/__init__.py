"""Python clients of one server, measured: what `benches/python_clients.py` is made of."""
