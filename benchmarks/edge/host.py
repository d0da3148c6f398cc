"""A Sparkplug host that stores nothing: it says that it is online and acknowledges every batch, as the server would.

``python -m benchmarks.edge.host PORT`` prints ``host is online`` when agents may connect. The host reads only the
header of a batch, so that it loads neither numpy nor the agent's modules: pages that both processes map would count
only half in the agent's PSS. Messages that cannot be read are counted, and the count is printed at the end; a batch is
acknowledged only when its header was read.
"""

from __future__ import annotations

import asyncio
import sys
import time

import aiomqtt

from fleet_core.batches import batch_header
from fleet_core.births import decode_held
from fleet_core.errors import BadInput
from fleet_core.sparkplug.payload import decode_payload
from fleet_core.sparkplug.session import encode_state
from fleet_core.sparkplug.topics import MessageType, parse_topic, state_topic, subscription
from fleet_server.ingest.session import AckBook

LOOPBACK = "127.0.0.1"
HOST_ID = "forestall"
READY = "host is online"
ACK_INTERVAL_S = 0.1


class Answers:
    """Acknowledgements that are not sent yet; ``unreadable`` counts messages that could not be read."""

    def __init__(self) -> None:
        self.book = AckBook()
        self.unreadable = 0

    def take(self, topic: str, payload: bytes) -> None:
        """One NDATA or DDATA message."""
        try:
            node = parse_topic(topic)
            decoded = decode_payload(payload)
            if decode_held(decoded) is None:
                header = batch_header(decoded)
                self.book.stored((node.group_id, node.node_id), header.outbox_id, header.number)
        except BadInput:
            self.unreadable += 1


async def serve(port: int) -> None:
    """Until cancelled or the broker is gone (aiomqtt.MqttError)."""
    answers = Answers()
    topic = state_topic(HOST_ID)
    will = aiomqtt.Will(topic, encode_state(False, _now_ms()), qos=1, retain=True)
    try:
        async with aiomqtt.Client(LOOPBACK, port, identifier="bench-host", will=will) as client:
            await client.subscribe([(subscription(kind), 0) for kind in (MessageType.NDATA, MessageType.DDATA)])
            await client.publish(topic, encode_state(True, _now_ms()), qos=1, retain=True)
            print(READY, flush=True)
            await asyncio.gather(_listen(client, answers), _answer(client, answers))
    finally:
        print(f"{answers.unreadable} messages were not understood", flush=True)


async def _listen(client: aiomqtt.Client, answers: Answers) -> None:
    async for message in client.messages:
        if isinstance(message.payload, bytes):
            answers.take(message.topic.value, message.payload)


async def _answer(client: aiomqtt.Client, answers: Answers) -> None:
    while True:
        await asyncio.sleep(ACK_INTERVAL_S)
        for topic, payload in answers.book.drain():
            await client.publish(topic, payload, qos=1)


def _now_ms() -> int:
    return int(time.time() * 1000)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
