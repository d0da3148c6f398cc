"""Demand: which parts and skills the fleet will need, and what to order.

counts.py     distributions of small counts (pure)
plan.py       the need of each part and skill, and the proposed orders (pure)
service.py    reads the inputs of the plan from the database
words.py      a need in one sentence
"""

from fleet_server.insights.demand.plan import Assumptions, Line, parse_days
from fleet_server.insights.demand.words import amount, part_sentence, skill_sentence

__all__ = ["Assumptions", "Line", "amount", "parse_days", "part_sentence", "skill_sentence"]
