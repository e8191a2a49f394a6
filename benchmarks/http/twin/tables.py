"""The twin's tables, with the indices that its statements use."""

TABLES = """
CREATE TABLE users (
    id uuid PRIMARY KEY, status text NOT NULL, role text NOT NULL, region text NOT NULL);
CREATE TABLE games (
    id uuid PRIMARY KEY, seller_id uuid NOT NULL, sku text NOT NULL, title text NOT NULL,
    description text NOT NULL, publisher text NOT NULL, category text NOT NULL,
    genres text[] NOT NULL, tags text[] NOT NULL, platforms text[] NOT NULL, release_date date,
    kind text NOT NULL, prices jsonb NOT NULL, image_ids uuid[] NOT NULL, status text NOT NULL,
    version int NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED);
CREATE INDEX ON games (created_at DESC, id DESC) WHERE status = 'ACTIVE';
CREATE INDEX ON games USING gin (words) WHERE status = 'ACTIVE';
CREATE TABLE stock (
    product_id uuid PRIMARY KEY REFERENCES games, total bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0, allocated bigint NOT NULL DEFAULT 0,
    CHECK (reserved >= 0 AND allocated >= 0 AND reserved + allocated <= total));
CREATE TABLE orders (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, region text NOT NULL,
    currency text NOT NULL, total_cents bigint NOT NULL, refunded_cents bigint NOT NULL DEFAULT 0,
    status text NOT NULL, provisional boolean NOT NULL, cancel_reason text,
    payment_id uuid NOT NULL, shipping_address jsonb, expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE INDEX ON orders (user_id, created_at DESC);
CREATE TABLE order_lines (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders,
    game_id uuid NOT NULL REFERENCES games, seller_id uuid NOT NULL, kind text NOT NULL,
    title text NOT NULL, quantity int NOT NULL, unit_price_cents bigint NOT NULL,
    shipment_id uuid);
CREATE INDEX ON order_lines (order_id);
CREATE TABLE payments (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders, amount_cents bigint NOT NULL,
    refunded_cents bigint NOT NULL DEFAULT 0, refund_status text, currency text NOT NULL,
    status text NOT NULL, method text, token text, provider text, client_secret text,
    redirect_url text, code text, detail text, expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE INDEX ON payments (order_id);
CREATE TABLE refunds (
    refund_id uuid PRIMARY KEY, payment_id uuid NOT NULL REFERENCES payments,
    amount_cents bigint NOT NULL, status text NOT NULL, reason text NOT NULL, code text,
    provider_ref text, requested_at timestamptz NOT NULL);
CREATE INDEX ON refunds (payment_id);
CREATE TABLE shipments (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders, seller_id uuid NOT NULL,
    provisional boolean NOT NULL, status text NOT NULL, carrier text, tracking_number text,
    version int NOT NULL, processing_at timestamptz, shipped_at timestamptz,
    delivered_at timestamptz, cancelled_at timestamptz, created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL);
CREATE INDEX ON shipments (order_id);
CREATE TABLE receipts (
    id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders, seller_id uuid NOT NULL,
    number int NOT NULL, year int NOT NULL, amount_cents bigint NOT NULL, currency text NOT NULL,
    status text NOT NULL, url text, issued_at timestamptz);
CREATE INDEX ON receipts (order_id);
CREATE TABLE happenings (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid REFERENCES orders, payment_id uuid REFERENCES payments, name text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), status text, reason text, code text, detail text,
    amount_cents bigint, method text, provider text, provider_ref text, attempt int);
CREATE INDEX ON happenings (order_id);
CREATE INDEX ON happenings (payment_id) WHERE payment_id IS NOT NULL;
CREATE TABLE library (
    user_id uuid NOT NULL REFERENCES users, game_id uuid NOT NULL REFERENCES games,
    order_id uuid NOT NULL REFERENCES orders, purchase_date timestamptz NOT NULL,
    PRIMARY KEY (user_id, game_id));
CREATE INDEX ON library (user_id, purchase_date DESC, game_id);
CREATE TABLE carts (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, status text NOT NULL,
    currency text NOT NULL, version int NOT NULL, expires_at timestamptz NOT NULL);
CREATE UNIQUE INDEX ON carts (user_id) WHERE status = 'ACTIVE';
CREATE TABLE cart_items (
    id uuid PRIMARY KEY, cart_id uuid NOT NULL REFERENCES carts,
    product_id uuid NOT NULL REFERENCES games, seller_id uuid NOT NULL, sku text NOT NULL,
    title text NOT NULL, quantity int NOT NULL, unit_price_cents bigint NOT NULL,
    reservation_id uuid, position bigint GENERATED ALWAYS AS IDENTITY);
CREATE INDEX ON cart_items (cart_id);
CREATE TABLE reservations (
    id uuid PRIMARY KEY, product_id uuid NOT NULL REFERENCES stock, quantity int NOT NULL,
    cart_id uuid, order_id uuid, expires_at timestamptz NOT NULL);
CREATE INDEX ON reservations (expires_at);
CREATE TABLE wallets (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, currency text NOT NULL,
    status text NOT NULL, balance_cents bigint NOT NULL CHECK (balance_cents >= 0),
    UNIQUE (user_id, currency));
CREATE TABLE transactions (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users, type text NOT NULL,
    status text NOT NULL, amount_cents bigint NOT NULL, currency text NOT NULL,
    from_wallet_id uuid REFERENCES wallets, to_wallet_id uuid REFERENCES wallets,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON transactions (user_id, created_at DESC);
CREATE TABLE wallet_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, wallet_id uuid NOT NULL REFERENCES wallets,
    transaction_id uuid NOT NULL REFERENCES transactions, amount_cents bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON wallet_entries (wallet_id, id);
CREATE TABLE idempotency (
    user_id uuid NOT NULL, key text NOT NULL, fingerprint bytea NOT NULL, result_id uuid NOT NULL,
    expires_at timestamptz NOT NULL, PRIMARY KEY (user_id, key));
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, queue text NOT NULL, body jsonb NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON jobs (queue, due_at);
"""
