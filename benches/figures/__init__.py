"""Figures beside Apache ZooKeeper: what `benches/side_by_side.py` is made of."""
