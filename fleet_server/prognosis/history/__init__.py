"""Degradation histories from files: read, written, and imported into the library.

files.py    reads a file of any known layout, within bounds; reads and writes our own trajectory CSV
sets.py     reads recorded public sets in their publishers' layouts
units.py    the content of a history file once it is read: usable units and refused ones
cli.py      ``fleet-server history``
"""

from fleet_server.prognosis.history.files import read_history, write_history
from fleet_server.prognosis.history.units import History, healthy_level

__all__ = ["History", "healthy_level", "read_history", "write_history"]
