// Lints OpenAPI documents (a JSON array of texts, on standard input) with Redocly's rules and prints what
// it found in each, for the test that holds the API's own document against them.
import { createConfig, lintFromString } from '@redocly/openapi-core';

const headers = { '1XX': [], '2XX': ['X-Request-Id'], '3XX': ['X-Request-Id'], '4XX': ['X-Request-Id'], '5XX': ['X-Request-Id'] };

// Every recommended rule as an error, and these. Left out are matters of taste: a description for
// operations whose summary says it all, an order of methods, and is or has before names of flags.
const rules = {
  'spec-strict-refs': 'error',
  'array-parameter-serialization': 'error',
  'component-name-unique': 'error',
  'no-duplicated-tag-names': 'error',
  'no-http-verbs-in-paths': 'error',
  'no-invalid-media-type-examples': 'error',
  'no-invalid-parameter-examples': 'error',
  'no-invalid-schema-examples': 'error',
  'no-mixed-number-range-constraints': 'error',
  'no-required-schema-properties-undefined': 'error',
  'no-schema-type-mismatch': 'error',
  'operation-operationId-url-safe': 'error',
  'operation-singular-tag': 'error',
  'parameter-description': 'error',
  'paths-kebab-case': 'error',
  'request-mime-type': { severity: 'error', allowedValues: ['application/json', 'application/merge-patch+json', 'application/x-ndjson', 'application/x-www-form-urlencoded'] },
  'response-contains-header': { severity: 'error', names: headers },
  'response-mime-type': { severity: 'error', allowedValues: ['application/json', 'application/problem+json', 'application/x-ndjson', 'text/html'] },
  'tag-description': 'error',
  'tags-alphabetical': 'error',
};

// Findings that are right about the letter of the document and wrong about its use. One that no longer
// comes is a finding itself, so that the list only shrinks.
const known = {
  'no-unused-components #/components/schemas/LineAnswer': 'x-line-schema refers to it: OpenAPI 3.1 has no word for the lines of NDJSON',
  'no-unused-components #/components/responses/Problem405': 'it answers the methods that a path does not have',
  ...Object.fromEntries(['2XX', '410', '429', '4XX', '5XX'].map((status) =>
    [`response-contains-header #/webhooks/state-change/post/responses/${status}/headers`, 'apps answer, and they need no header of ours'])),
};

const config = await createConfig({ extends: ['spec', 'recommended-strict'], rules });
const chunks = [];
for await (const c of process.stdin) chunks.push(c);
const out = [];
for (const source of JSON.parse(Buffer.concat(chunks).toString())) {
  const seen = new Set();
  const problems = [];
  for (const p of await lintFromString({ source, absoluteRef: 'openapi.json', config })) {
    const at = `${p.ruleId} ${p.location[0]?.pointer ?? ''}`;
    seen.add(at);
    if (!(at in known)) problems.push(`${at}: ${p.message}`);
  }
  for (const at of Object.keys(known)) if (!seen.has(at)) problems.push(`no longer found, take it off the list: ${at}`);
  out.push({ problems, rules: Object.values(config.rules.oas3_1).filter((r) => r !== 'off' && r?.severity !== 'off').length });
}
process.stdout.write(JSON.stringify(out));
