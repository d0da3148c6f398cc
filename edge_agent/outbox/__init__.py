"""The outbox: every batch stands here, on disk, before it is published, and stays until the server has answered for it.

A batch that the server stored is kept a day longer; one that it refused is deleted. One that leaves unanswered (evicted
or undeliverable) leaves a gap.

What survives a power cut
    Everything ``Outbox.append`` returned for. Each call is one transaction of SQLite in WAL mode with
    ``synchronous=FULL``: when it returns, all of its drafts are on disk; when the power fails before, none is. What was
    settled, evicted or declared lost is committed the same way. What had not been appended yet is lost.

What is evicted when the outbox is full (``room.py``)
    Stored batches first, then held waveforms, routine vitals, findings, gaps; the oldest first within each class. A
    draft never evicts a worthier class: when only worthier batches are left, the draft is refused with ``no_room``.
    Every held batch that leaves becomes a gap, which is sent to the server. An evicted gap batch gives its records back
    to the table of gaps: what was declared lost stays declared.

The file (``file.py``), format 1
    meta      outbox_id, next_number, last_digest (of the hash chain), inode (a copied file is another outbox)
    batches   id (order of appending), outbox_id + number (the key), class, device, digest, status, time range, body
    schemas   those that batches may still name
    gaps      losses not yet declared in a batch of their own

Invariants
* Numbers count up without holes; each number is held, stored, refused, or in a gap (declared or to be declared).
* Bodies and 256 bytes of bookkeeping a row stay below the quota, of which 256 KiB are reserved for gap batches.
* At most 1,024 rows of undeclared gaps; beyond that the two oldest are merged.

Failure
    ``OutboxUnavailable`` (Retryable) when the disk is full or fails: nothing was written then. A reserve file of 512
    KiB is given up when the disk is full, so that the loss can still be written down. A file that cannot be read is set
    aside as ``*.damaged``, and a new outbox, with a new id, begins.
"""

from edge_agent.outbox.file import OutboxUnavailable, check_outbox
from edge_agent.outbox.outbox import Appended, Key, Leased, Outbox, OutboxStats

__all__ = ["Appended", "Key", "Leased", "Outbox", "OutboxStats", "OutboxUnavailable", "check_outbox"]
