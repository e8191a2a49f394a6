-- When an event was decided, by the clock of the process that decided it. `recorded_at` is the log's own time: it never
-- runs backwards, so it stays ahead for as long as the database's clock was ahead once; it says the order, and nothing is
-- decided by it. Rows of the release before have no occurred_at: they occurred when they were recorded.
ALTER TABLE log.events ADD COLUMN occurred_at timestamptz;

-- Those that occurred while recorded_at was ahead: none, unless a clock was wrong. By it they are found by their time.
CREATE INDEX events_behind ON log.events (occurred_at) WHERE recorded_at - occurred_at > interval '1 minute';

CREATE TYPE log.new_event_v4 AS (
    event_id       uuid,
    stream_id      uuid,
    version        bigint,
    name           text,
    payload        bytea,
    actor          text,
    correlation_id uuid,
    causation_id   uuid,
    traceparent    text,
    occurred_at    timestamptz
);

-- As log.append_v3, which stays for processes of the release before, with the time of each event's decision.
--
-- `not_before` and `not_after` are what the clock here may say if it is to agree with that of the process that asks
-- (null: whatever it says). When it says something else, nothing is appended: LT001 is raised, with this clock's time in
-- the detail, in microseconds since 1970. So no time becomes history that one of the two clocks contradicts.
CREATE FUNCTION log.append_v4(
    events log.new_event_v4[], digests bytea[], from_streams uuid[], from_versions bigint[], from_kinds text[],
    read_streams uuid[], read_versions bigint[], onces log.new_once[], wake boolean,
    not_before timestamptz, not_after timestamptz,
    OUT base bigint, OUT at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h      bytea;
    clock  timestamptz;
    stamp  bytea;
    hashes bytea[] := digests;   -- of the right length; every element is overwritten
    void   text;
BEGIN
    void := pg_advisory_xact_lock(4910, 1);
    clock := clock_timestamp();
    IF clock < not_before OR clock > not_after THEN
        RAISE EXCEPTION 'the clocks of the database and of the process that asks differ' USING
            ERRCODE = 'LT001', DETAIL = (extract(epoch FROM clock) * 1000000)::bigint::text;
    END IF;
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
    at := greatest(at, clock);
    stamp := timestamptz_send(at);
    FOR i IN 1..cardinality(digests) LOOP
        h := sha256(h || int8send(base + i) || stamp || digests[i]);
        hashes[i] := h;
    END LOOP;

    INSERT INTO log.events (position, event_id, stream_id, version, name, payload, actor,
                            correlation_id, causation_id, traceparent, recorded_at, hash, occurred_at)
    SELECT base + n, event_id, stream_id, version, name, payload, actor,
           correlation_id, causation_id, traceparent, at, hashes[n], occurred_at
    FROM unnest(events) WITH ORDINALITY
        AS u(event_id, stream_id, version, name, payload, actor, correlation_id, causation_id, traceparent,
             occurred_at, n);

    IF cardinality(onces) > 0 THEN
        INSERT INTO log.once (key, fingerprint, refs, position, expires_at)
        SELECT key, fingerprint, refs, base + last_event, expires_at FROM unnest(onces);
    END IF;

    IF wake THEN
        void := pg_notify('ludoteca_log', (base + cardinality(digests))::text);
    END IF;
END $$;

REVOKE ALL ON FUNCTION log.append_v4 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append_v4 TO ludoteca_app;
