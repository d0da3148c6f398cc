"""The core that both sides of the wire share: clock, errors, vocabulary, telemetry, wire format."""

__version__ = "0.1.0"
WIRE_VERSION = 1
