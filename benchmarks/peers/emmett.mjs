// Appends to Emmett's PostgreSQL event store: node emmett.mjs CONNECTION-STRING CALLERS SECONDS WARM-UP EVENT
// Prints the latencies in milliseconds as JSON. Each caller appends five events to a stream, then starts the next.
import { randomUUID } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { createRequire } from 'node:module';

const require = createRequire(process.env.PEERS + '/');
const { getPostgreSQLEventStore } = require('@event-driven-io/emmett-postgresql');
const pg = require('pg');

const [url, callers, seconds, warmUp, event] = process.argv.slice(2);
const data = JSON.parse(event);
const pool = new pg.Pool({ connectionString: url, max: Number(callers) });
const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } });
await store.schema.migrate();

const begin = performance.now() + Number(warmUp) * 1000;
const end = begin + Number(seconds) * 1000;
const latencies = [];

async function caller() {
  for (;;) {
    const stream = `funds-${randomUUID()}`;
    let expectedStreamVersion = 'STREAM_DOES_NOT_EXIST';
    for (let version = 1; version <= 5; version++) {
      const started = performance.now();
      if (started >= end) return;
      const { nextExpectedStreamVersion } = await store.appendToStream(
        stream, [{ type: 'FundsAdded', data }], { expectedStreamVersion });
      expectedStreamVersion = nextExpectedStreamVersion;
      const now = performance.now();
      if (started >= begin && now <= end) latencies.push(now - started);
    }
  }
}

await Promise.all(Array.from({ length: Number(callers) }, caller));
await store.close();
await pool.end();
process.stdout.write(JSON.stringify(latencies));
