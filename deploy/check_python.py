"""Say plainly what is missing before a virtual environment is made. Must run on any Python 3."""

import importlib.util
import sys

NEEDED = (3, 11)

if tuple(sys.version_info) < NEEDED:
    found = ".".join(str(part) for part in sys.version_info[:3])
    sys.exit(f"Forestall needs Python 3.11 or newer; {sys.executable} is {found}. Set PYTHON=/path/to/python3.11")
missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("Python's {} is missing. On Debian: apt-get install python3-venv".format(" and ".join(missing)))
