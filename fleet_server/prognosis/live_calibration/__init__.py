"""Live calibration: do forecasts hold in the field what they promise, and what follows when they do not.

scoring.py        the score of one prognosis, once the outcome of its case is known
reliability.py    how probabilities of failure compare with what happened
cohorts.py        many prognoses together: coverage, drift, verdicts
service.py        stores scores and verdicts in the database and records verdicts in the audit log
"""

from fleet_server.prognosis.live_calibration.service import review_cohort, score_case, standing_of

__all__ = ["review_cohort", "score_case", "standing_of"]
