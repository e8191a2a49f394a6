-- What was delivered, and when (RFC 3339); number_key is equal for all spellings of a tracking number.
create table if not exists deliveries (
    shipment_id     text primary key,
    tracking_number text not null,
    number_key      text not null,
    delivered_at    text not null
);
create index if not exists deliveries_by_number on deliveries (number_key);
