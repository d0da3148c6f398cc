"""A small MQTT broker as its own program, for machines without mosquitto: ``iotcore`` (rumqttd) on loopback only.

It checks no certificates and no rights, so it binds 127.0.0.1 and offers no way to bind anything else. MQTT 3.1.1
and MQTT 5 need a port each: a client that speaks version 5 to the 3.1.1 port is never answered. Everything is
kept in memory; a restart forgets retained messages and sessions.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 10000
max_payload_size = {max_packet_bytes}
max_inflight_count = 1000
dynamic_filters = true
"""
# The log of each subscribed filter holds at most segments x size; a reader further behind loses the oldest.
ROUTER = """
id = 0
[router]
id = 0
max_connections = 4096
max_outgoing_packet_count = 1000
max_segment_size = 8388608
max_segment_count = 6
"""


def render(port: int, port_v5: int, max_packet_bytes: int) -> str:
    """The configuration of rumqttd: one loopback listener for each version of the protocol."""
    listeners = [
        LISTENER.format(version=version, port=number, max_packet_bytes=max_packet_bytes)
        for version, number in (("v4", port), ("v5", port_v5))
    ]
    return ROUTER + "".join(listeners)


def main() -> None:
    """Serve until killed. Exits 2 with one line when iotcore is missing or a port is taken."""
    parser = argparse.ArgumentParser(description="A broker for the demo, on 127.0.0.1 only. No rights are checked.")
    parser.add_argument("--port", type=int, required=True, help="port for MQTT 3.1.1")
    parser.add_argument("--port-v5", type=int, required=True, help="port for MQTT 5")
    parser.add_argument("--max-packet-bytes", type=int, default=2 * 1024 * 1024)
    options = parser.parse_args()
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # rumqttd wraps routing in error-level spans: unsilenced, every packet is logged as an error.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    try:
        from iotcore import IotCoreBroker
    except ImportError:
        parser.error("iotcore is not installed: install mosquitto, or this project's demo extra")
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "rumqttd.toml"
        config.write_text(render(options.port, options.port_v5, options.max_packet_bytes))
        broker = IotCoreBroker(config_path=str(config))
    try:
        broker.check_ports()
    except OSError as error:
        parser.error(str(error))
    print("iotcore starts: NO certificates and NO rights are checked; loopback only", file=sys.stderr, flush=True)
    broker.run_forever()


if __name__ == "__main__":
    main()
