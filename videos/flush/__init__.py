"""The clock corridor: claim -> apply -> confirm, shard by shard; and reconcile.

For each shard: read the floor of batch numbers; claim what is pending, or find the batch that an interrupted run left;
make the claim durable; apply and confirm it chunk by chunk; end the batch; settle notes. A run may die anywhere, and
any number of runs may overlap: the batch's number guards claims and confirms in Redis, and the watermark guards the
rows. docs/glossary.md explains the terms.
"""

from videos.counters import CountersUnavailable
from videos.flush.reconcile import ReconcileReport, reconcile
from videos.flush.run import FlushReport
from videos.flush.status import FlushStatus, read_status
from videos.flush.workers import run_flush

__all__ = [
    "CountersUnavailable", "FlushReport", "FlushStatus", "ReconcileReport", "read_status", "reconcile", "run_flush",
]  # fmt: skip
