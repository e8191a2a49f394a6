-- Append a batch of appends, each whole or absent, in one statement: the group commit of docs/log.md.
--
-- Event arrays have one element per event, in order; append_nos says which append of the batch (from 1) it belongs to.
-- check_* have one element per stream that must exist already: its append, and the version that it must be at.
-- once_* have one element per append that carries an idempotency key.
--
-- The advisory lock makes this the only writer until commit; every statement of a volatile function sees what was
-- committed before the lock was granted, so position order is commit order and the last row is the true tail.
--
-- At first a batch is tried as a whole (careful = false): a unique violation or a missing predecessor says that some
-- append lost, and nothing is kept. Sent again with careful = true, the losers are found and left out: `conflicts`
-- are the appends with a stream that had moved on, `repeats` those whose key is known.
CREATE FUNCTION log.append(
    careful boolean,
    event_ids uuid[], stream_ids uuid[], versions bigint[], names text[], payloads bytea[], digests bytea[],
    actors text[], correlation_ids uuid[], causation_ids uuid[], traceparents text[], append_nos int[],
    check_streams uuid[], check_versions bigint[], check_appends int[],
    once_keys uuid[], once_fingerprints bytea[], once_refs text[], once_expires timestamptz[], once_appends int[],
    OUT base bigint, OUT at timestamptz, OUT conflicts int[], OUT repeats int[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  -- Planned once per connection, perhaps while the log is tiny: plans that read all of it must not be chosen then.
  SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    h         bytea;
    p         bigint;
    hashes    bytea[] := digests;   -- of the right length; every element is overwritten or left out
    positions bigint[] := versions;
    ends      bigint[] := '{}';
    lost      int[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(4910, 1);
    conflicts := '{}';
    repeats := '{}';
    IF careful THEN
        repeats := ARRAY(SELECT k.a FROM unnest(once_keys, once_appends) AS k(key, a)
                         WHERE EXISTS (SELECT 1 FROM log.once o WHERE o.key = k.key));
        conflicts := ARRAY(
            SELECT DISTINCT c.a FROM unnest(check_streams, check_versions, check_appends) AS c(s, v, a)
            WHERE c.v <> coalesce(
                      (SELECT e.version FROM log.events e WHERE e.stream_id = c.s ORDER BY e.version DESC LIMIT 1), 0)
              AND c.a <> ALL (repeats));
        lost := conflicts || repeats;
    ELSIF cardinality(check_streams) > 0 THEN
        PERFORM 1 FROM unnest(check_streams, check_versions) AS c(s, v)
        WHERE (SELECT e.version FROM log.events e WHERE e.stream_id = c.s AND e.version = c.v) IS NULL;
        IF FOUND THEN
            RAISE EXCEPTION 'a stream is not at the expected version' USING ERRCODE = 'unique_violation';
        END IF;
    END IF;

    SELECT e.position, e.hash, e.recorded_at INTO base, h, at FROM log.events e ORDER BY e.position DESC LIMIT 1;
    base := coalesce(base, 0);
    h := coalesce(h, decode(repeat('00', 32), 'hex'));
    at := greatest(at, clock_timestamp());
    p := base;
    FOR i IN 1..cardinality(event_ids) LOOP
        IF append_nos[i] = ANY (lost) THEN
            positions[i] := NULL;
            CONTINUE;
        END IF;
        p := p + 1;
        h := sha256(h || int8send(p) || timestamptz_send(at) || digests[i]);
        hashes[i] := h;
        positions[i] := p;
        ends[append_nos[i]] := p;
    END LOOP;
    IF p = base THEN
        RETURN;
    END IF;

    INSERT INTO log.events
    SELECT u.p, u.id, u.s, u.v, u.name, u.payload, u.actor, u.correlation, u.causation, u.trace, at, u.h
    FROM unnest(positions, event_ids, stream_ids, versions, names, payloads, actors,
                correlation_ids, causation_ids, traceparents, hashes)
        AS u(p, id, s, v, name, payload, actor, correlation, causation, trace, h)
    WHERE u.p IS NOT NULL;

    IF cardinality(once_keys) > 0 THEN
        INSERT INTO log.once (key, fingerprint, refs, position, expires_at)
        SELECT k.key, k.fingerprint, k.refs, ends[k.a], k.expires
        FROM unnest(once_keys, once_fingerprints, once_refs, once_expires, once_appends)
            AS k(key, fingerprint, refs, expires, a)
        WHERE k.a <> ALL (lost);
    END IF;

    PERFORM pg_notify('ludoteca_log', p::text);
END $$;

REVOKE ALL ON FUNCTION log.append FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log.append TO ludoteca_app;
