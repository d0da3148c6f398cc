"""Exact, filtered nearest-neighbour search over millions of signature windows; the answer names different units.

index.py    the index: add windows, search them
blocks.py   windows sorted into blocks of neighbouring windows
walk.py     one search over the blocks
files.py    an index on disk
"""

from fleet_server.prognosis.search.index import ANYWHERE, Found, SignatureIndex, Where

__all__ = ["ANYWHERE", "Found", "SignatureIndex", "Where"]
