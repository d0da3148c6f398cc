"""Labels of cases and work orders for people: one spelling for messages, pages and the command line. Pure."""

from __future__ import annotations


def case_label(number: int) -> str:
    """``FS-000123`` for case number 123."""
    return f"FS-{number:06d}"


def work_order_label(number: int) -> str:
    """``WO-000123`` for work order number 123."""
    return f"WO-{number:06d}"
