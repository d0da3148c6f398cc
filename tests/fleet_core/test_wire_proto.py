"""The generated Sparkplug module agrees with its .proto file, and every protobuf runtime allowed accepts it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from fleet_core.sparkplug import payload_pb2
from fleet_core.sparkplug.payload import decode_payload, mark_historical

ROOT = Path(__file__).resolve().parents[2]


def test_the_module_is_what_the_compiler_makes_of_the_proto_file() -> None:
    checked = subprocess.run(
        [sys.executable, "deploy/proto.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stderr


def test_the_oldest_runtime_an_install_may_get_accepts_the_module() -> None:
    text = (ROOT / "fleet_core/sparkplug/payload_pb2.py").read_text()
    arguments = re.search(r"ValidateProtobufRuntimeVersion\([^\d]*(\d+),\s*(\d+),\s*(\d+),", text)
    assert arguments is not None
    compiled = tuple(int(number) for number in arguments.groups())
    (requirement,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest, limit = re.fullmatch(r"protobuf>=([\d.]+),<(\d+)", requirement).groups()
    assert tuple(int(number) for number in oldest.split(".")) >= compiled
    assert int(limit) <= compiled[0] + 2  # a runtime warns of code that is one major version older


def test_fields_we_do_not_know_are_kept_when_a_payload_is_encoded_again() -> None:
    message = payload_pb2.Payload(timestamp=1)
    message.metrics.add(name="a", timestamp=1, datatype=10, double_value=2.0, metadata=b"\x12\x01x")
    unknown = b"\xfa\x07\x03abc"  # field 127, three bytes
    head = message.metrics[0].SerializeToString() + unknown
    payload = b"\x08\x01\x12" + bytes((len(head),)) + head + unknown
    marked = payload_pb2.Payload.FromString(mark_historical(payload))
    assert marked.metrics[0].is_historical and marked.metrics[0].metadata == b"\x12\x01x"
    assert marked.SerializeToString().count(unknown) == 2
    assert decode_payload(payload).metrics[0].value == 2.0
