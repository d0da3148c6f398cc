-- Applied once where the extension timescaledb is installed in the database: the telemetry becomes hypertables with
-- one chunk a day, compressed after a week. Everything else, and every query, stays as it is. A database that holds
-- telemetry already keeps its native partitions.
SET LOCAL search_path = fleet, public;

DO $$
DECLARE
    telemetry text;
BEGIN
    IF EXISTS (SELECT FROM samples) OR EXISTS (SELECT FROM waveform) THEN
        RAISE NOTICE 'telemetry is there already: native partitions stay';
        RETURN;
    END IF;
    FOREACH telemetry IN ARRAY ARRAY['samples', 'waveform'] LOOP
        EXECUTE format('CREATE TABLE %I_plain (LIKE %I INCLUDING DEFAULTS)', telemetry, telemetry);
        EXECUTE format('DROP TABLE %I', telemetry);
        EXECUTE format('ALTER TABLE %I_plain RENAME TO %I', telemetry, telemetry);
        EXECUTE format('SELECT create_hypertable(%L, ''t0'', chunk_time_interval => INTERVAL ''1 day'','
                       ' create_default_indexes => false)', 'fleet.' || telemetry);
        EXECUTE format('CREATE INDEX %I ON %I (series_id, t0 DESC)', telemetry || '_by_series', telemetry);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO forestall_ingest', telemetry);
        EXECUTE format('GRANT SELECT ON %I TO forestall_worker', telemetry);
        BEGIN -- not in the Apache edition
            EXECUTE format('ALTER TABLE %I SET (timescaledb.compress, timescaledb.compress_segmentby = ''series_id'','
                           ' timescaledb.compress_orderby = ''t0 DESC'')', telemetry);
            EXECUTE format('SELECT add_compression_policy(%L, INTERVAL ''7 days'')', 'fleet.' || telemetry);
        EXCEPTION WHEN feature_not_supported OR undefined_function THEN
            RAISE NOTICE '% is not compressed: this edition of TimescaleDB cannot', telemetry;
        END;
    END LOOP;
END $$;
