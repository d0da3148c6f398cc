"""A device in the wrong hands: a real MQTT client with a node's certificate that sends what it likes.

It keeps what the server answers, so that a test can wait for "stored" or "refused". Real time; every wait is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_core.commands import decode_command
from fleet_core.sparkplug.topics import MessageType, Topic
from provisioning.device import load_bundle

WAIT_S = 20.0


class Intruder:
    """Connected as ``node_id`` of ``group_id``; with a ``bundle`` over TLS. A context manager."""

    def __init__(self, node_id: str, group_id: str, host: str, port: int, bundle: Path | None = None) -> None:
        self.stored: set[tuple[str, int]] = set()
        self.refused: dict[tuple[str, int], str] = {}
        self.disconnects = 0
        self._ready = threading.Event()
        self._verdicts: dict[int, int] = {}
        self._commands = str(Topic(group_id, MessageType.NCMD, node_id))
        # MQTT 5: the broker says whether a publication was allowed
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=node_id, protocol=mqtt.MQTTv5)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_disconnect = self._on_disconnect
        self._client.reconnect_delay_set(1, 1)
        if bundle is not None:
            files = load_bundle(bundle)
            self._client.tls_set(str(files.ca_file), str(files.cert_file), str(files.key_file))
        self._client.connect(host, port)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish as agents do: QoS 0."""
        self._client.publish(topic, payload).wait_for_publish(WAIT_S)

    def verdict(self, topic: str, payload: bytes) -> int:
        """Publish at QoS 1 and return the broker's reason code: 0 delivered, 16 nobody listens, 135 not authorised."""
        sent = self._client.publish(topic, payload, qos=1)
        wait_until(lambda: sent.mid in self._verdicts, "the broker's verdict")
        return self._verdicts[sent.mid]

    def await_connected(self) -> None:
        """Wait until connected and listening, again after a lost connection."""
        assert self._ready.wait(WAIT_S), "the broker does not let the intruder in"

    def __enter__(self) -> Intruder:
        self._client.loop_start()
        self.await_connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(self._commands, qos=1)

    def _on_disconnect(self, *_: Any) -> None:
        self._ready.clear()
        self.disconnects += 1

    def _on_publish(self, client: mqtt.Client, userdata: object, mid: int, reason: Any, *_: Any) -> None:
        self._verdicts[mid] = reason.value

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        command = decode_command(message.payload)
        for first, last in command.stored:
            self.stored.update((command.outbox_id, number) for number in range(first, last + 1))
        self.refused.update({(command.outbox_id, number): reason for number, reason in command.refused})


def wait_until(condition: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
    """Poll until true; fails the test with ``what`` after ``limit_s`` real seconds."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"waited {limit_s:g} s for {what}"
        time.sleep(0.1)
