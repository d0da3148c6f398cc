"""Degradation histories from files: read, written, and imported into the library.

files.py    a file of any known layout, read within bounds; our own trajectory CSV, read and written
sets.py     recorded public sets in their publishers' layouts        units.py    what a file holds once it is read
cli.py      ``fleet-server history``
"""

from fleet_server.prognosis.history.files import read_history, write_history
from fleet_server.prognosis.history.units import History, healthy_level

__all__ = ["History", "healthy_level", "read_history", "write_history"]
