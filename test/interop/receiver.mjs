// A partner's receiver, strict about everything it is promised: it fetches the keys by discovery, verifies
// Token with jsonwebtoken and jwks-rsa and the webhook signature with standardwebhooks, checks headers and
// property names, and reports each request as one JSON line on stdout.
//
// Environment: DISCOVERY_URL, ISSUER, CLIENT_ID, WEBHOOK_SECRET; PORT (0, the default, picks a free one)
// and HOST (127.0.0.1). The first line reports the port:
//
//   {"event":"listening","port":40123}
//   {"event":"verified","webhook_id":"chg_…","tenant":"Cust12345","change_type":2,"sequence":17,…}
//   {"event":"refused","status":401,"part":"signature|token|body","why":"…"}
//   {"event":"unable","status":503,"part":"keys","why":"…"}

import { createServer } from 'node:http';
import jwt from 'jsonwebtoken';
import { JwksClient } from 'jwks-rsa';
import { Webhook } from 'standardwebhooks';

const { DISCOVERY_URL, ISSUER, CLIENT_ID, WEBHOOK_SECRET, PORT = '0', HOST = '127.0.0.1' } = process.env;
for (const [name, value] of Object.entries({ DISCOVERY_URL, ISSUER, CLIENT_ID, WEBHOOK_SECRET })) {
  if (!value) {
    console.error(`receiver: ${name} is not set`);
    process.exit(2);
  }
}

const CONTEXT_CLAIM = 'http://schemes.superoffice.net/identity/ctx';
const MOVE = 5;
const NAMES = ['ChangeType', 'ContextIdentifier', 'VersionName', 'FileVersion', 'Token'];
const MAX_BODY = 64 * 1024;

const report = (line) => console.log(JSON.stringify(line));
const webhook = new Webhook(WEBHOOK_SECRET);

class Refused extends Error {
  constructor(status, part, why) {
    super(why);
    Object.assign(this, { status, part });
  }
}

const demand = (condition, status, part, why) => {
  if (!condition) throw new Refused(status, part, why);
};

// The discovery document is read once it is needed, and again if that failed.
let keys;
async function keyClient() {
  if (!keys) {
    const answer = await fetch(DISCOVERY_URL, { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`discovery answered ${answer.status}`);
    const document = await answer.json();
    if (document.issuer !== ISSUER) throw new Error(`discovery is of issuer ${document.issuer}`);
    keys = new JwksClient({ jwksUri: document.jwks_uri, cache: true, timeout: 5000 });
  }
  return keys;
}

// keyOf finds the key that a Token names. A kid that is not published refuses the Token; keys that cannot
// be fetched are the receiver's own trouble.
async function keyOf(header) {
  try {
    return (await (await keyClient()).getSigningKey(header.kid)).getPublicKey();
  } catch (err) {
    if (err.name === 'SigningKeyNotFoundError') throw new Refused(401, 'token', err.message);
    throw new Refused(503, 'keys', err.message);
  }
}

async function verifyToken(token) {
  const decoded = jwt.decode(token, { complete: true });
  demand(decoded?.header.kid, 401, 'token', 'Token is no JWT with a kid');
  const key = await keyOf(decoded.header);
  try {
    const claims = jwt.verify(token, key, {
      algorithms: ['RS256', 'ES256'],
      issuer: ISSUER,
      audience: `spn:${CLIENT_ID}`,
    });
    return { header: decoded.header, claims };
  } catch (err) {
    throw new Refused(401, 'token', err.message);
  }
}

function checkSignature(body, headers) {
  try {
    webhook.verify(body, headers, { jsonParse: false });
  } catch (err) {
    throw new Refused(401, 'signature', err.message);
  }
}

function parse(body) {
  let notification;
  try {
    notification = JSON.parse(body);
  } catch (err) {
    throw new Refused(400, 'body', err.message);
  }
  const expected = notification.ChangeType === MOVE ? [...NAMES, 'PublicEndpoint'] : NAMES;
  const names = Object.keys(notification);
  demand(names.join() === expected.join(), 400, 'body', `the properties are ${names.join()}`);
  const { ChangeType, ...texts } = notification;
  demand(Number.isInteger(ChangeType) && ChangeType >= 0 && ChangeType <= MOVE, 400, 'body', 'ChangeType');
  for (const [name, value] of Object.entries(texts)) demand(typeof value === 'string', 400, 'body', name);
  return notification;
}

async function judge(req, body) {
  checkSignature(body, req.headers);
  demand(req.headers['content-type'] === 'application/json; charset=utf-8', 400, 'body', 'Content-Type');
  const notification = parse(body);
  const { header, claims } = await verifyToken(notification.Token);
  const tenant = notification.ContextIdentifier;
  demand(claims[CONTEXT_CLAIM] === tenant && claims.sub === tenant, 401, 'token', 'Token is for another tenant');
  const { 'x-state-sequence': sequence, 'x-state-superseded': superseded } = req.headers;
  demand(/^\d+$/.test(sequence ?? ''), 400, 'body', 'x-state-sequence');
  demand(/^\d+$/.test(superseded ?? ''), 400, 'body', 'x-state-superseded');
  return {
    webhook_id: req.headers['webhook-id'],
    tenant,
    change_type: notification.ChangeType,
    version_name: notification.VersionName,
    file_version: notification.FileVersion,
    public_endpoint: notification.PublicEndpoint,
    sequence: Number(sequence),
    superseded: Number(superseded),
    alg: header.alg,
    kid: header.kid,
    thumbprint_matches: Buffer.from(header.x5t ?? '', 'base64url').toString('hex').toUpperCase() === header.kid,
    lifetime: claims.exp - claims.nbf,
  };
}

async function read(req) {
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    demand(size <= MAX_BODY, 413, 'body', 'too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const server = createServer(async (req, res) => {
  try {
    demand(req.method === 'POST', 405, 'body', req.method);
    const seen = await judge(req, await read(req));
    report({ event: 'verified', ...seen });
    res.writeHead(200).end();
  } catch (err) {
    const { status = 500, part = 'receiver', message } = err;
    report({ event: status >= 500 ? 'unable' : 'refused', status, part, why: message });
    res.writeHead(status).end(message);
  }
});
server.listen(Number(PORT), HOST, () => report({ event: 'listening', port: server.address().port }));
