-- Notices that no receiver has accepted yet. due_at is null once the sender has given up.
create table if not exists webhooks (
    id         text primary key,
    body       blob not null,
    attempts   integer not null default 0,
    created_at real not null,
    due_at     real,
    traceparent text
);
create index if not exists webhooks_due on webhooks (due_at) where due_at is not null;
