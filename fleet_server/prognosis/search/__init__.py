"""Exact nearest-neighbour search over millions of signature windows, filtered, one window for each unit.

index.py    the index: add windows, search them        blocks.py   windows sorted into blocks of neighbours
walk.py     one search over the blocks                 files.py    an index on disk
"""

from fleet_server.prognosis.search.index import ANYWHERE, Found, SignatureIndex, Where

__all__ = ["ANYWHERE", "Found", "SignatureIndex", "Where"]
