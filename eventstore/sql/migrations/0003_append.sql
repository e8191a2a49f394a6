-- Append a batch of appends in one statement: the group commit of docs/log.md. All of it happens, or nothing.
--
-- `events` are in order, `digests` has one for each; `from_streams` and `from_versions` are the streams that must exist
-- already, and the version that they must have reached; `onces` are the idempotency keys that come with the batch.
-- Raises unique_violation when some stream had moved on, has not come so far, or some key is known: the caller finds out
-- which, and sends the others again.
--
-- The advisory lock makes this the only writer until commit; every statement of a volatile function sees what was
-- committed before the lock was granted, so position order is commit order and the last row is the true tail.
--
-- Lock and notification are called in assignments, which PL/pgSQL evaluates by itself: PERFORM would start the executor
-- for each, which a lone append would feel.
CREATE TYPE log.new_event AS (
    event_id       uuid,
    stream_id      uuid,
    version        bigint,
    name           text,
    payload        bytea,
    actor          text,
    correlation_id uuid,
    causation_id   uuid,
    traceparent    text
);

CREATE TYPE log.new_once AS (
    key         uuid,
    fingerprint bytea,
    refs        text,
    expires_at  timestamptz,
    last_event  bigint  -- which of the batch's events, from 1, is the last of its append
);

CREATE FUNCTION log.append(
    events log.new_event[], digests bytea[], from_streams uuid[], from_versions bigint[], onces log.new_once[],
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
        PERFORM FROM unnest(from_streams, from_versions) AS f(stream_id, version)
        WHERE (SELECT true FROM log.events e WHERE e.stream_id = f.stream_id AND e.version = f.version) IS NULL;
        IF FOUND THEN
            RAISE unique_violation USING MESSAGE = 'a stream is not at the expected version';
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

    void := pg_notify('ludoteca_log', (base + cardinality(digests))::text);
END $$;

REVOKE ALL ON FUNCTION log.append FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append TO ludoteca_app;
