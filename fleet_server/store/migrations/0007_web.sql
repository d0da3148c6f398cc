-- What the web process needs: sessions, thinned vitals, and a narrower sight of people and secrets.
SET LOCAL search_path = fleet, public;

-- Only the worker role checks passwords and sessions; the role that renders pages cannot read either.
REVOKE SELECT ON app_user FROM forestall_web;

-- A session is a random token of which only the hash is kept. Its times are real time: they guard people, not stories.
CREATE TABLE web_session (
    token_hash  bytea PRIMARY KEY,
    user_id     text NOT NULL REFERENCES app_user ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX ON web_session (user_id);
CREATE INDEX ON web_session (expires_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON web_session TO forestall_worker;
GRANT SELECT, INSERT, UPDATE ON app_user TO forestall_worker;

-- Our own people (case owners, engineers) are named to every customer; public trajectories belong to nobody.
CREATE POLICY web_ours ON person FOR SELECT TO forestall_web USING (tenant_id IS NULL);
CREATE POLICY web_public ON trajectory FOR SELECT TO forestall_web USING (tenant_id IS NULL);

-- Vitals of one metric thinned to `buckets` equal time buckets: the extremes survive, as a chart of that many pixels
-- needs. A batch row no longer than a bucket is taken by its stored summary, others are unnested.
CREATE FUNCTION vitals_thinned(wanted_asset text, wanted_metric text, from_t timestamptz, to_t timestamptz, buckets int)
RETURNS TABLE (bucket int, n bigint, bad bigint, v_min double precision, v_max double precision,
               v_mean double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = fleet, pg_temp AS $$
    WITH bound AS (
        SELECT extract(epoch FROM from_t)::double precision * 1e6 AS from_us,
               extract(epoch FROM to_t)::double precision * 1e6 AS to_us,
               greatest(extract(epoch FROM to_t - from_t)::double precision, 1e-6) * 1e6 / buckets AS width_us
    ), chosen AS (
        SELECT samples.*, extract(epoch FROM samples.t0)::double precision * 1e6 AS t0_us,
               extract(epoch FROM samples.t1 - samples.t0)::double precision * 1e6 AS span_us
          FROM series JOIN asset USING (asset_id) JOIN samples USING (series_id)
         WHERE series.asset_id = wanted_asset AND series.metric = wanted_metric AND may_see(asset.tenant_id)
           AND samples.t1 >= from_t AND samples.t0 <= to_t
    ), piece AS (
        SELECT floor((greatest(t0_us, from_us) - from_us) / width_us) AS at, chosen.n - chosen.bad AS good, chosen.bad,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_min END AS low,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_max END AS high,
               CASE WHEN chosen.n > chosen.bad THEN chosen.v_sum END AS total
          FROM chosen, bound WHERE span_us <= width_us AND t0 >= from_t AND t1 <= to_t
        UNION ALL
        SELECT floor((point.t_us - from_us) / width_us), finite::int, (NOT finite)::int,
               CASE WHEN finite THEN point.v END, CASE WHEN finite THEN point.v END, CASE WHEN finite THEN point.v END
          FROM chosen CROSS JOIN bound
         CROSS JOIN LATERAL unnest(chosen.times_us, chosen.vals) AS point(t_us, v)
         CROSS JOIN LATERAL (SELECT point.v > '-Infinity' AND point.v < 'Infinity' AS finite) AS quality
         WHERE (span_us > width_us OR t0 < from_t OR t1 > to_t) AND point.t_us BETWEEN from_us AND to_us
    )
    SELECT least(at, buckets - 1)::int, sum(good), sum(piece.bad), min(low), max(high), sum(total) / nullif(sum(good), 0)
      FROM piece GROUP BY 1 ORDER BY 1
$$;
GRANT EXECUTE ON FUNCTION vitals_thinned TO forestall_web, forestall_worker;
