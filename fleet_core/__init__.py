"""Words both sides of the wire share: clock, errors, vocabulary, telemetry, wire format. No I/O here."""

__version__ = "0.1.0"
WIRE_VERSION = 1
