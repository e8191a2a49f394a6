-- Amounts are in the smallest unit of the currency, times unix seconds.

create table if not exists receipts (
    reference text primary key,
    idempotency_key text not null unique,
    seller_id text not null,
    year integer not null,
    number integer not null,
    order_id text not null,
    amount_cents integer not null,
    currency text not null,
    issued_at integer not null,
    unique (seller_id, year, number),
    unique (seller_id, order_id)
);
