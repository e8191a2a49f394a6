-- As log.append_v4, without the events' time of decision: for processes of the previous release.
CREATE OR REPLACE FUNCTION log.append_v3(
    events log.new_event[], digests bytea[], from_streams uuid[], from_versions bigint[], from_kinds text[],
    read_streams uuid[], read_versions bigint[], onces log.new_once[], wake boolean,
    OUT base bigint, OUT at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h      bytea;
    stamp  bytea;
    hashes bytea[] := digests;   -- of the right length; every element is overwritten
    void   text;
BEGIN
    void := pg_advisory_xact_lock(4910, 1);
    IF cardinality(from_streams) > 0 THEN
        PERFORM FROM unnest(from_streams, from_versions, from_kinds) AS f(stream_id, version, kind)
        WHERE (SELECT coalesce(k.kind, f.kind) FROM log.events e LEFT JOIN log.event_kinds k ON k.name = e.name
               WHERE e.stream_id = f.stream_id AND e.version = f.version) IS DISTINCT FROM f.kind;
        IF FOUND THEN
            RAISE unique_violation USING MESSAGE = 'a stream is not at the expected version, or of another kind';
        END IF;
    END IF;
    IF cardinality(read_streams) > 0 THEN
        PERFORM FROM unnest(read_streams, read_versions) AS r(stream_id, version)
        WHERE (SELECT true FROM log.events e WHERE e.stream_id = r.stream_id AND e.version = r.version + 1) IS NOT NULL;
        IF FOUND THEN
            RAISE unique_violation USING MESSAGE = 'a stream that was read has moved on';
        END IF;
    END IF;

    SELECT e.position, e.hash, e.recorded_at INTO base, h, at FROM log.events e ORDER BY e.position DESC LIMIT 1;
    base := coalesce(base, 0);
    h := coalesce(h, decode(repeat('00', 32), 'hex'));
    at := greatest(at, clock_timestamp());
    stamp := timestamptz_send(at);
    FOR i IN 1..cardinality(digests) LOOP
        h := sha256(h || int8send(base + i) || stamp || digests[i]);
        hashes[i] := h;
    END LOOP;

    INSERT INTO log.events (position, event_id, stream_id, version, name, payload, actor,
                            correlation_id, causation_id, traceparent, recorded_at, hash)
    SELECT base + n, event_id, stream_id, version, name, payload, actor,
           correlation_id, causation_id, traceparent, at, hashes[n]
    FROM unnest(events) WITH ORDINALITY
        AS u(event_id, stream_id, version, name, payload, actor, correlation_id, causation_id, traceparent, n);

    IF cardinality(onces) > 0 THEN
        INSERT INTO log.once (key, fingerprint, refs, position, expires_at)
        SELECT key, fingerprint, refs, base + last_event, expires_at FROM unnest(onces);
    END IF;

    IF wake THEN
        void := pg_notify('ludoteca_log', (base + cardinality(digests))::text);
    END IF;
END $$;

REVOKE ALL ON FUNCTION log.append_v3 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append_v3 TO ludoteca_app;
