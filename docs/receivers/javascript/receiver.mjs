// A receiver of state changes in JavaScript (Node.js 20 or newer).
//
//   npm install jsonwebtoken@9 jwks-rsa@4 standardwebhooks@1
//   DISCOVERY_URL=… ISSUER=… CLIENT_ID=… WEBHOOK_SECRET=whsec_… node receiver.mjs
//
// PORT (0 picks a free one) and INBOX_FILE are optional. It logs one JSON line per event.

import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import jwt from 'jsonwebtoken';
import { JwksClient } from 'jwks-rsa';
import { Webhook } from 'standardwebhooks';

const { DISCOVERY_URL, ISSUER, CLIENT_ID, WEBHOOK_SECRET, PORT = '0', INBOX_FILE = 'inbox.json' } = process.env;
for (const [name, value] of Object.entries({ DISCOVERY_URL, ISSUER, CLIENT_ID, WEBHOOK_SECRET })) {
  if (!value) throw new Error(`${name} is not set`); // jsonwebtoken does not check an issuer that is undefined
}
const MAX_BODY = 64 * 1024;

const log = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

class Refused extends Error {
  constructor(status, part, why) {
    super(why);
    Object.assign(this, { status, part });
  }
}

// region signature
const webhook = new Webhook(WEBHOOK_SECRET);

// body must be the text as it arrived, before any parsing.
function verifySignature(body, headers) {
  try {
    webhook.verify(body, headers, { jsonParse: false });
  } catch (err) {
    throw new Refused(401, 'signature', err.message);
  }
}
// endregion

// region token
let keys;

// One request finds the address of the keys; the client caches them and fetches them again for an unknown kid.
async function findKey(kid) {
  if (!keys) {
    const answer = await fetch(DISCOVERY_URL, { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(`discovery answered ${answer.status}`);
    keys = new JwksClient({ jwksUri: (await answer.json()).jwks_uri, timeout: 3000 });
  }
  return (await keys.getSigningKey(kid)).getPublicKey();
}

async function verifyToken(token, tenant) {
  const kid = jwt.decode(token, { complete: true })?.header.kid;
  if (!kid) throw new Refused(401, 'token', 'Token names no key');
  let key;
  try {
    key = await findKey(kid);
  } catch (err) {
    if (err.name === 'SigningKeyNotFoundError') throw new Refused(401, 'token', err.message);
    throw new Refused(503, 'keys', err.message); // our trouble, not the sender's: ask for another try
  }
  let claims;
  try {
    claims = jwt.verify(token, key, {
      algorithms: ['RS256', 'ES256'],
      issuer: ISSUER,
      audience: `spn:${CLIENT_ID}`,
      clockTolerance: 30,
    });
  } catch (err) {
    throw new Refused(401, 'token', err.message);
  }
  if (claims['http://schemes.superoffice.net/identity/ctx'] !== tenant) {
    throw new Refused(401, 'token', 'Token is for another tenant');
  }
}
// endregion

// region inbox
// The sequences received and the work to be done. A file stands in for your database: one transaction
// must hold both the check and the insert.
let inbox = existsSync(INBOX_FILE) ? JSON.parse(readFileSync(INBOX_FILE, 'utf8')) : { tenants: {}, work: [] };

function save(next) {
  const fd = openSync(`${INBOX_FILE}.new`, 'w', 0o600);
  try {
    writeFileSync(fd, JSON.stringify(next));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${INBOX_FILE}.new`, INBOX_FILE);
  inbox = next; // what could not be stored was not accepted
}

// Only a smaller sequence is outdated. An equal one under a new id is the state sent again: accept it.
function accept(change) {
  const heard = inbox.tenants[change.tenant] ?? { sequence: -1, ids: [] };
  if (change.sequence < heard.sequence) return 'older';
  if (change.sequence === heard.sequence && heard.ids.includes(change.webhook_id)) return 'duplicate';
  const earlier = change.sequence === heard.sequence ? heard.ids : [];
  const ids = [...earlier, change.webhook_id].slice(-50);
  save({
    tenants: { ...inbox.tenants, [change.tenant]: { sequence: change.sequence, ids } },
    work: [...inbox.work, change],
  });
  return 'new';
}
// endregion

// region receive
async function receive(req) {
  const body = await read(req);
  verifySignature(body, req.headers);
  const n = parse(body);
  await verifyToken(n.Token, n.ContextIdentifier);
  const change = {
    webhook_id: req.headers['webhook-id'],
    tenant: n.ContextIdentifier,
    change_type: n.ChangeType,
    sequence: Number(req.headers['x-state-sequence']),
    public_endpoint: n.PublicEndpoint,
  };
  if (!Number.isSafeInteger(change.sequence)) throw new Refused(400, 'body', 'x-state-sequence is no number');
  return [change, accept(change)];
}

const server = createServer(async (req, res) => {
  try {
    const [change, verdict] = await receive(req);
    res.writeHead(204).end(); // stored: the sender need not wait for the work
    log(verdict === 'new' ? 'accepted' : 'ignored', { why: verdict, ...change });
    work();
  } catch (err) {
    const { status = 500, part = 'receiver', message } = err;
    res.writeHead(status, status === 503 ? { 'Retry-After': '30' } : {}).end(message);
    log('refused', { status, part, why: message });
  }
});
// endregion

async function read(req) {
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    if (size > MAX_BODY) throw new Refused(413, 'body', 'too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parse(body) {
  try {
    const n = JSON.parse(body);
    if (Number.isInteger(n.ChangeType) && n.ContextIdentifier && n.Token) return n;
  } catch {
    // answered below
  }
  throw new Refused(400, 'body', 'not a state change');
}

// region work
// Put your own calls here. A crash between handle and save repeats the last one, so make it idempotent.
async function handle(change) {
  switch (change.change_type) {
    case 0: // Upgrade
    case 2: // Suspend
      return 'pause';
    case 1: // BackupRestored
      return 'resynchronize';
    case 3: // Resume
      return 'resume';
    case 4: // Delete
      return 'forget';
    case 5: // Move
      return `use ${change.public_endpoint}`;
    default: // a type of the future
      return 'nothing';
  }
}

let working = false;
async function work() {
  if (working) return;
  working = true;
  while (inbox.work.length > 0) {
    try {
      const change = inbox.work[0];
      const action = await handle(change);
      save({ ...inbox, work: inbox.work.slice(1) });
      log('handled', { action, ...change });
    } catch (err) {
      log('postponed', { why: err.message });
      await pause(30_000);
    }
  }
  working = false;
}
// endregion

server.listen(Number(PORT), '127.0.0.1', () => {
  log('listening', { port: server.address().port });
  work(); // what a crash left undone
});
