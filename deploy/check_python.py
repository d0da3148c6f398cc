"""Say plainly what is missing before a virtual environment is made. Runs on any Python 3."""

import importlib.util
import sys

if sys.version_info < (3, 11):
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit("Forestall needs Python 3.11 or newer; %s is %s. Set PYTHON=/path/to/python3.11." % (sys.executable, found))
missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("Python's %s is missing. On Debian: apt-get install python3-venv" % " and ".join(missing))
