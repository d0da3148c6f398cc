"""Live calibration: did forecasts keep their promise in the field, and what follows when they did not.

scoring.py        how right one prognosis was, once its outcome is known
reliability.py    how probabilities of failure kept their word
cohorts.py        many prognoses together: coverage, drift, verdicts
service.py        scores and verdicts kept in the database, and recorded in the audit log
"""

from fleet_server.prognosis.live_calibration.service import review_cohort, score_case, standing_of

__all__ = ["review_cohort", "score_case", "standing_of"]
