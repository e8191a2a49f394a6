-- For API processes of release 1 that run beside a newer release: log.append_v3 without kinds. Each existing stream
-- counts as being of its own kind; a new stream has no kind, and so the append is refused, as it must be.
CREATE OR REPLACE FUNCTION log.append(
    events log.new_event[], digests bytea[], from_streams uuid[], from_versions bigint[],
    read_streams uuid[], read_versions bigint[], onces log.new_once[],
    OUT base bigint, OUT at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kinds text[];
BEGIN
    SELECT coalesce(array_agg(coalesce(k.kind, '') ORDER BY f.n), '{}') INTO kinds
    FROM unnest(from_streams, from_versions) WITH ORDINALITY AS f(stream_id, version, n)
    LEFT JOIN log.events e ON e.stream_id = f.stream_id AND e.version = f.version
    LEFT JOIN log.event_kinds k ON k.name = e.name;
    SELECT v.base, v.at INTO base, at
    FROM log.append_v3(events, digests, from_streams, from_versions, kinds, read_streams, read_versions, onces, true) v;
END $$;

REVOKE ALL ON FUNCTION log.append FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append TO ludoteca_app;
