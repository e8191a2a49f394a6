-- Signed checkpoints, and the Merkle tree over the log (docs/proofs.md). All but the keys and the notes follows from
-- log.events: `ludoteca audit rebuild-tree` computes it anew.

-- Complete nodes of 256^level leaves, of levels 1 and above; the leaves follow from log.events.hash.
CREATE TABLE log.tree (
    level  smallint NOT NULL,
    number bigint NOT NULL,
    hash   bytea NOT NULL,
    PRIMARY KEY (level, number)
);

-- What was signed: `hash` is the chain's at the position `size`. `void` says why the log has not these events any more.
CREATE TABLE log.tree_heads (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size         bigint NOT NULL,
    root         bytea NOT NULL,
    hash         bytea NOT NULL,
    note         text NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    witnessed_at timestamptz,
    void         text
);
CREATE INDEX tree_heads_by_size ON log.tree_heads (size) WHERE void IS NULL;

-- Public keys: each signs trees from the size `since` on, until the next one does. Their secrets are in private.secrets.
CREATE TABLE log.tree_keys (
    number  int PRIMARY KEY,
    public  bytea NOT NULL,
    since   bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, UPDATE (hash), DELETE ON log.tree TO ludoteca_app;
GRANT SELECT, INSERT, UPDATE (note, witnessed_at, void) ON log.tree_heads TO ludoteca_app;
GRANT SELECT, INSERT ON log.tree_keys TO ludoteca_app;
