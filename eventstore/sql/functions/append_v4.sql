-- Append a batch of appends in one statement: the group commit of docs/log.md. All or nothing.
--
-- `events` are in order, with one of `digests` each. `from_streams`, `from_versions` and `from_kinds` are the streams that
-- must already exist, the version that each must have reached, and its kind. `read_streams` and `read_versions` are streams
-- that are not appended to, but must be at exactly that version. `onces` are the idempotency keys of the batch.
-- `wake` notifies listeners: a hint, left out while the server's notification queue is full.
-- Raises unique_violation when a stream has moved on, has not reached its version or is of another kind, or when a key is
-- known: the caller finds out which, and sends the others again.
--
-- The advisory lock makes this the only writer until commit. Every statement of a volatile function sees what was committed
-- before the lock was granted, so position order is commit order and the last row is the true tail.
--
-- Lock and notification are called in assignments, which PL/pgSQL evaluates by itself: PERFORM would start the executor for
-- each, at a cost that a lone append would notice.
--
-- `not_before` and `not_after` bound the time of the server's clock, to agree with the calling process's (null: unbounded).
-- Outside them nothing is appended: LT001 is raised, with the server's time in the detail, in microseconds since 1970. So no
-- time that either clock contradicts becomes history.
CREATE OR REPLACE FUNCTION log.append_v4(
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
