-- Copy events from the log that this one mirrors, in its order: events, idempotency keys and checkpoint, all or nothing.
--
-- `after` is the checkpoint that the caller goes on from, `upto` the next one; `after` null begins at the first event.
-- Raises LT002 when the checkpoint is another by now: another mirror has the lead.
-- Without events it notes that there are no more.
-- `events` are in order, with one of `digests` and of `times` each: the time that the other log gave it. Positions, times
-- and hashes follow from the order alone, so that a mirror built anew is the same to the byte.
-- `wake` notifies listeners: a hint, left out while the server's notification queue is full.
-- An event whose position is taken is compared. Raises LT003 when another is there, with the position in the detail.
CREATE OR REPLACE FUNCTION log.mirror_v1(
    after bigint, upto bigint,
    events log.new_event_v4[], digests bytea[], times timestamptz[], onces log.new_once[], wake boolean,
    OUT head bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    checkpoint log.mirror;
    base   bigint := 0;
    h      bytea;
    at     timestamptz;
    hashes bytea[] := digests;   -- of the right length; every element is overwritten, as those of `times` are
    other  bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(4910, 1);
    IF NOT EXISTS (SELECT FROM log.mirror) THEN
        ALTER TABLE log.events ENABLE ALWAYS TRIGGER only_the_mirror;
    END IF;
    IF after IS NOT NULL THEN
        SELECT m.* INTO checkpoint FROM log.mirror m;
        IF checkpoint.commit_position IS DISTINCT FROM after THEN
            RAISE EXCEPTION 'another mirror has moved on' USING ERRCODE = 'LT002';
        END IF;
        base := checkpoint.position;
    END IF;
    SELECT e.position INTO head FROM log.events e ORDER BY e.position DESC LIMIT 1;
    head := coalesce(head, 0);
    SELECT e.hash, e.recorded_at INTO h, at FROM log.events e WHERE e.position = base;
    h := coalesce(h, decode(repeat('00', 32), 'hex'));
    FOR i IN 1..cardinality(digests) LOOP
        at := greatest(at, times[i]);
        times[i] := at;
        h := sha256(h || int8send(base + i) || timestamptz_send(at) || digests[i]);
        hashes[i] := h;
    END LOOP;

    IF base < head THEN
        SELECT min(e.position) INTO other FROM generate_subscripts(hashes, 1) AS u(n)
        JOIN log.events e ON e.position = base + n WHERE e.hash <> hashes[n];
        IF other IS NOT NULL THEN
            RAISE EXCEPTION 'another event is at position %', other USING ERRCODE = 'LT003', DETAIL = other::text;
        END IF;
    END IF;
    PERFORM set_config('ludoteca.mirrors', 'on', true);
    INSERT INTO log.events (position, event_id, stream_id, version, name, payload, actor,
                            correlation_id, causation_id, traceparent, recorded_at, hash, occurred_at)
    SELECT base + n, event_id, stream_id, version, name, payload, actor,
           correlation_id, causation_id, traceparent, times[n], hashes[n], occurred_at
    FROM unnest(events) WITH ORDINALITY
        AS u(event_id, stream_id, version, name, payload, actor, correlation_id, causation_id, traceparent,
             occurred_at, n)
    WHERE base + n > head;
    PERFORM set_config('ludoteca.mirrors', '', true);

    IF cardinality(onces) > 0 THEN  -- a key that was purged may come again
        INSERT INTO log.once AS o (key, fingerprint, refs, position, expires_at)
        SELECT key, fingerprint, refs, base + last_event, expires_at FROM unnest(onces)
        ON CONFLICT (key) DO UPDATE SET
            fingerprint = excluded.fingerprint, refs = excluded.refs, position = excluded.position,
            expires_at = excluded.expires_at, answer = NULL
        WHERE o.position < excluded.position;
    END IF;

    INSERT INTO log.mirror (commit_position, position, seen_at)
    VALUES (upto, base + cardinality(digests), CASE WHEN cardinality(digests) > 0 THEN at ELSE clock_timestamp() END)
    ON CONFLICT (only_one) DO UPDATE SET
        commit_position = excluded.commit_position, position = excluded.position,
        seen_at = excluded.seen_at, halted = NULL;
    IF base + cardinality(digests) > head THEN
        head := base + cardinality(digests);
        IF wake THEN
            PERFORM pg_notify('ludoteca_log', head::text);
        END IF;
    END IF;
END $$;

REVOKE ALL ON FUNCTION log.mirror_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.mirror_v1 TO ludoteca_app;
