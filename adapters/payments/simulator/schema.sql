create table if not exists intents (
    id          text primary key,
    payment_id  text,
    document    blob not null,
    settles_at  real
);
create index if not exists intents_by_payment on intents (payment_id);
create index if not exists intents_to_settle on intents (settles_at) where settles_at is not null;

-- Money that went back, or is on its way: then ends_at says when its outcome is known.
create table if not exists refunds (
    id        text primary key,
    document  blob not null,
    ends_at   real
);
create index if not exists refunds_to_end on refunds (ends_at) where ends_at is not null;

-- What was answered under an idempotency key; the fingerprint tells whether a repeat asks for the same thing.
create table if not exists answers (
    idempotency_key text primary key,
    fingerprint     text not null,
    status          integer not null,
    body            blob not null
) without rowid;
