"""Generate the Sparkplug module from its .proto file, or check that both agree.

    python deploy/proto.py           writes payload_pb2.py and payload_pb2.pyi beside payload.proto
    python deploy/proto.py --check   ends with 1 and the difference when they are not what would be written

The compiler is that of grpcio-tools, which requirements/dev.lock pins. It writes its own version into the module; a
compiler of another version that generates the same otherwise passes the check. The version that stands in the module
is the oldest protobuf runtime the module accepts, so ``dependencies`` of pyproject.toml must not allow an older one.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTO = Path("fleet_core/sparkplug/payload.proto")
GENERATED = (PROTO.with_name("payload_pb2.py"), PROTO.with_name("payload_pb2.pyi"))
TIMEOUT_S = 60.0

# "# Protobuf Python Version: 7.35.1", and the same three numbers as arguments, a line each
_VERSION = re.compile(r"(?<=^# Protobuf Python Version: )\S+$|^    \d+,$", re.MULTILINE)


def generate(target: Path) -> None:
    """Write the module and its stub below ``target``. Raises CalledProcessError with the compiler's own words shown."""
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT), f"--python_out={target}"]
    subprocess.run([*command, f"--pyi_out={target}", str(PROTO)], cwd=ROOT, check=True, timeout=TIMEOUT_S)


def differences() -> str:
    """How the files in the tree differ from what would be generated, as a unified diff; "" when they agree."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        found = []
        for name in GENERATED:
            here = (ROOT / name).read_text() if (ROOT / name).exists() else ""
            lines = [_VERSION.sub("VERSION", text).splitlines() for text in (here, (Path(folder) / name).read_text())]
            found += difflib.unified_diff(*lines, f"{name} (in the tree)", f"{name} (generated)", lineterm="", n=1)
    return "\n".join(found)


def main() -> int:
    """Write, or check; 0 when the files agree with the .proto file at the end."""
    parser = argparse.ArgumentParser(description="Generate the Sparkplug module, or check that it agrees.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when they do not agree")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    found = differences()
    if found:
        print(f"{found}\n{PROTO} and its generated module do not agree: run `make proto`", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
