-- Statements of fleet_server/prognosis/live_calibration: scores of prognoses, and the standing of cohorts.

-- name: lock_cohort
-- Ends of one cohort are scored one after the other, so that each change of its verdict is made, and said, once.
SELECT pg_advisory_xact_lock(hashtextextended('cohort:' || %(component_type)s || '/' || %(asset_class)s, 0));

-- name: scorable
-- The forecasts of a case, also of earlier cases of the same component that ended without a repair: they are known now
-- to have been about a longer life. The latest score of each comes along.
SELECT prognosis.prognosis_id, prognosis.case_id, prognosis.made_at, prognosis.abstained, prognosis.failure_mode,
       prognosis.model_version, prognosis.rul_p10_h, prognosis.rul_p50_h, prognosis.rul_p90_h, prognosis.p_fail,
       prognosis.inputs, scored.revision, scored.ended_at, scored.failed, scored.mode_found
  FROM prognosis
  LEFT JOIN LATERAL (SELECT revision, ended_at, failed, mode_found FROM prognosis_score
                      WHERE prognosis_score.prognosis_id = prognosis.prognosis_id
                      ORDER BY revision DESC LIMIT 1) AS scored ON true
 WHERE (prognosis.case_id = %(case_id)s
        OR prognosis.case_id IN (SELECT earlier.case_id FROM repair_case AS earlier
                                  WHERE earlier.asset_id = %(asset_id)s AND earlier.slot = %(slot)s
                                    AND earlier.component_serial = %(serial)s AND %(serial)s <> ''
                                    AND earlier.state IN ('false_alarm', 'cancelled')))
   AND (prognosis.rul_p50_h IS NOT NULL OR prognosis.inputs ? 'withheld')
   AND prognosis.made_at < %(ended_at)s
 ORDER BY prognosis.made_at DESC
 LIMIT 1000;

-- name: add_score
INSERT INTO prognosis_score (prognosis_id, revision, tenant_id, case_id, asset_id, unit, component_type, asset_class,
                             model_version, withheld, mode_named, mode_found, made_at, ended_at, scored_at, failed,
                             remaining_h, inside, credit, position, early, late, pinball_h, log_error, p_fail, brier)
VALUES (%(prognosis_id)s, %(revision)s, %(tenant_id)s, %(case_id)s, %(asset_id)s, %(unit)s, %(component_type)s,
        %(asset_class)s, %(model_version)s, %(withheld)s, %(mode_named)s, %(mode_found)s, %(made_at)s, %(ended_at)s,
        %(scored_at)s, %(failed)s, %(remaining_h)s, %(inside)s, %(credit)s, %(position)s, %(early)s, %(late)s,
        %(pinball_h)s, %(log_error)s, %(p_fail)s, %(brier)s);

-- name: cohort_scores
-- The latest score of each prognosis of a cohort that ended in the window.
SELECT DISTINCT ON (prognosis_id) unit, asset_id, made_at, ended_at, failed, credit, position, early, late, remaining_h,
       p_fail
  FROM prognosis_score
 WHERE component_type = %(component_type)s AND asset_class = %(asset_class)s AND model_version = %(model_version)s
   AND ended_at > %(from_t)s
 ORDER BY prognosis_id, revision DESC
 LIMIT 50000;

-- name: standing
SELECT * FROM cohort_verdict
 WHERE component_type = %(component_type)s AND asset_class = %(asset_class)s AND model_version = %(model_version)s
 ORDER BY revision DESC
 LIMIT 1;

-- name: add_verdict
INSERT INTO cohort_verdict (component_type, asset_class, model_version, revision, verdict, since, counts_from, early,
                            late, reason, evidence)
VALUES (%(component_type)s, %(asset_class)s, %(model_version)s, %(revision)s, %(verdict)s, %(since)s, %(counts_from)s,
        %(early)s, %(late)s, %(reason)s, %(evidence)s);

-- name: visible_scores
-- For the pages: the latest scores the reader may see, newest ends first.
SELECT * FROM (
    SELECT DISTINCT ON (prognosis_id) component_type, asset_class, model_version, unit, asset_id, made_at, ended_at,
           failed, inside, credit, position, early, late, remaining_h, withheld, mode_named, mode_found, pinball_h,
           log_error, p_fail
      FROM prognosis_score
     WHERE ended_at > %(from_t)s
     ORDER BY prognosis_id, revision DESC) AS latest
 ORDER BY ended_at DESC
 LIMIT 20000;

-- name: verdicts
SELECT DISTINCT ON (component_type, asset_class, model_version)
       component_type, asset_class, model_version, verdict, since, early, late
  FROM cohort_verdict
 ORDER BY component_type, asset_class, model_version, revision DESC;
