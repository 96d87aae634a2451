// The README's tour by a client that openapi-typescript generated: register an app, let a tenant approve it, report a change, see
// that it was delivered. Any other answer than the expected one ends it with an error.
import createClient from 'openapi-fetch';
import type { components, paths, webhooks } from './api';

type Push = webhooks['state-change']['post']['requestBody']['content']['application/json'];
export const describePush = (push: Push): string => `${push.ContextIdentifier}: ${push.ChangeType}`;

const base = process.env['LAMPLIGHTER_URL'] ?? '';
const api = createClient<paths>({ baseUrl: base, headers: { Authorization: `Bearer ${process.env['LAMPLIGHTER_TOKEN']}` } });
const expect = (what: string, got: number, want: number, problem?: components['schemas']['Problem']): void => {
  if (got !== want) throw new Error(`${what}: ${got}, want ${want}: ${JSON.stringify(problem)}`);
  console.log(`${what}: ${got}`);
};

const app = { path: { client_id: 'tour-ts' } };
const body: components['schemas']['AppPut'] = {
  name: 'Tour',
  technical_contact: { name: 'Kim', email: 'kim@example.com' },
  endpoints: { state_change: { url: `${process.env['LAMPLIGHTER_RECEIVER']}`, enabled: true } },
};
const made = await api.PUT('/v1/apps/{client_id}', { params: app, body });
expect('register', made.response.status, 201, made.error);
const patched = await api.PATCH('/v1/apps/{client_id}', { params: app, body: { error_emails: ['ops@example.com'], probe_tenant: null } });
expect('patch', patched.response.status, 200, patched.error);
const approved = await api.PUT('/v1/apps/{client_id}/approvals/{tenant}', { params: { path: { client_id: 'tour-ts', tenant: 'Cust10001' } } });
expect('approve', approved.response.status, 204, approved.error);
const change = await api.POST('/v1/state-changes', { body: { tenant: 'Cust10001', change_type: 'suspend' } });
expect('publish', change.response.status, 202, change.error);
const accepted = change.data as components['schemas']['Accepted'];
const end = Date.now() + 30_000;
for (;;) {
  const status = await api.GET('/v1/state-changes/{id}', { params: { path: { id: accepted.id } } });
  expect('status', status.response.status, 200, status.error);
  const mine = status.data?.apps.find((a) => a.client_id === 'demo-erp');
  if (mine?.outcome === 'settled') break;
  if (Date.now() > end) throw new Error(`not delivered: ${JSON.stringify(status.data)}`);
  await new Promise((next) => setTimeout(next, 200));
}
const why = await api.GET('/v1/apps/{client_id}/tenants/{tenant}/why', { params: { path: { client_id: 'demo-erp', tenant: 'Cust10001' } } });
expect('why', why.response.status, 200, why.error);
const deliveries = await api.GET('/v1/apps/{client_id}/deliveries', { params: { path: { client_id: 'demo-erp' }, query: { limit: 5 } } });
expect('deliveries', deliveries.response.status, 200, deliveries.error);
if (deliveries.data?.items[0]?.outcome !== 'delivered') throw new Error(JSON.stringify(deliveries.data));
