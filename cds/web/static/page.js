// The page plays the EHR: it builds the hook request, sends it to the service it came from, shows the cards.
import { cardNode, element } from "./card.js";
import { TEXTS } from "./texts.js";

const $ = (id) => document.getElementById(id);
const state = { language: "en", demo: { patients: [] }, services: [], drafts: [], cards: null, service: "", exchange: null, said: null };
const t = () => TEXTS[state.language];
const KINDS = { "order-select": "draftOrders", "order-sign": "draftOrders", "appointment-book": "appointments" };
const MINIMUM = { "encounter-start": "encounterId", "encounter-discharge": "encounterId" };

const say = (text, wrong) => { $("status").textContent = text; $("status").className = wrong ? "wrong" : ""; };
const story = () => state.demo.patients.find((patient) => patient.id === $("story").value);
const bundle = (resources) => ({ resourceType: "Bundle", type: "collection", entry: resources.map((resource) => ({ resource })) });
const nameOf = (resource) => resource.medicationCodeableConcept?.text ?? resource.vaccineCode?.text ?? resource.code?.text ?? resource.description ?? resource.resourceType;

function identified(resource) {
  if (resource.id) return resource;
  for (let n = 1; ; n += 1) if (!state.drafts.some((draft) => draft.id === `draft-${n}`)) return { ...resource, id: `draft-${n}` };
}

function setDrafts(resources) {
  state.drafts = [];
  for (const resource of resources) state.drafts.push(identified(resource));
  $("json").value = JSON.stringify(state.drafts, null, 2);
  $("drafts").replaceChildren(...state.drafts.map((draft, n) => {
    const remove = element("button", { type: "button", textContent: t().remove });
    remove.setAttribute("aria-label", `${t().remove} ${nameOf(draft)}`);
    remove.addEventListener("click", () => { setDrafts(state.drafts.filter((_, m) => m !== n)); $("drug").focus(); });
    return element("li", {}, element("span", { textContent: `${nameOf(draft)} (${draft.resourceType}/${draft.id})` }), remove);
  }));
}

function showStories() {
  const chosen = $("story").value, patients = state.demo.patients;
  $("demo-row").hidden = $("saved-row").hidden = !patients.length;
  $("story").replaceChildren(element("option", { value: "", textContent: t().none }), ...patients.map((p) => element("option", { value: p.id, textContent: p.title[state.language] || p.id })));
  $("story").value = chosen;
}

function showSaved() {
  const chosen = $("saved").value;
  $("saved").replaceChildren(element("option", { value: "", textContent: t().none }), ...(story()?.requests ?? []).map((r) => element("option", { value: r.name, textContent: `${r.request.hook}: ${r.asks[state.language]}` })));
  $("saved").value = chosen;
  if ($("saved").selectedIndex < 0) $("saved").value = "";
}

function takeStory() {
  showSaved();
  const patient = story();
  if (!patient) return;
  $("fhir").value = state.demo.fhirServer;
  $("patient").value = patient.id;
  $("saved").value = patient.requests[0]?.name ?? "";
  takeSaved();
}

function takeSaved() {
  const saved = story()?.requests.find((r) => r.name === $("saved").value);
  if (!saved) return;
  const { hook, context } = saved.request;
  const wanted = saved.services.find((id) => state.services.some((s) => s.id === id)) ?? `all-${hook}`;
  $("service").value = wanted;
  $("encounter").value = context.encounterId ?? "";
  setDrafts((context[KINDS[hook]]?.entry ?? []).map((entry) => entry.resource));
}

function requestBody() {
  const hook = state.services.find((s) => s.id === $("service").value)?.hook ?? "patient-view";
  const context = { userId: "Practitioner/demo", patientId: $("patient").value.trim() };
  if ($("encounter").value.trim()) context.encounterId = $("encounter").value.trim();
  if (MINIMUM[hook] && !context.encounterId) { say(t().needEncounter, true); $("encounter").focus(); return null; }
  if (KINDS[hook]) {
    if (!state.drafts.length) { say(t().needDraft, true); return null; }
    context[KINDS[hook]] = bundle(state.drafts);
    if (hook === "order-select") context.selections = state.drafts.map((d) => `${d.resourceType}/${d.id}`);
  }
  const body = { hook, hookInstance: crypto.randomUUID(), context };
  const fhir = $("fhir").value.trim().replace(/\/+$/, "");
  if (fhir) body.fhirServer = fhir;
  return body;
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json", "Accept-Language": state.language };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  let json = null;
  try { json = JSON.parse(text); } catch { json = { text }; }
  return { status: response.status, ok: response.ok, json };
}

async function fire() {
  const body = requestBody();
  if (!body) return;
  const service = $("service").value, started = performance.now();
  say(t().busy);
  try {
    const answer = await post(`/cds-services/${encodeURIComponent(service)}`, body);
    const ms = Math.round(performance.now() - started);
    state.exchange = { service, body, answer, ms };
    state.service = service;
    state.cards = answer.ok ? answer.json.cards ?? [] : null;
    showAnswer();
    if (answer.ok) say(t().answered(state.cards.length, ms));
    else say(`${answer.status === 401 ? t().token : t().refused(answer.status)}: ${answer.json.issue?.[0]?.details?.text ?? answer.json.issue?.[0]?.diagnostics ?? ""}`, true);
  } catch { say(t().offline, true); }
}

function apply(suggestion) {
  let drafts = state.drafts;
  for (const action of suggestion.actions ?? []) {
    const [, id] = (action.resourceId?.[0] ?? action.resourceId ?? action.resource?.id ?? "").toString().match(/([^/]+)$/) ?? [];
    if (action.type === "delete") drafts = drafts.filter((d) => d.id !== id);
    else if (action.type === "update") drafts = drafts.map((d) => (d.id === id ? action.resource : d));
    else if (action.resource) drafts = [...drafts, action.resource];
  }
  setDrafts(drafts);
}

async function feedback(item) {
  try { return (await post(`/cds-services/${encodeURIComponent(state.service)}/feedback`, { feedback: [item] })).ok; } catch { return false; }
}

function showAnswer() {
  const { body, answer, ms } = state.exchange;
  $("request").textContent = JSON.stringify(body, null, 2);
  $("response").textContent = JSON.stringify(answer.json, null, 2);
  $("timing").textContent = `${answer.status} · ${ms} ms`;
  $("curl").disabled = false;
  if (!state.cards) { $("cards").replaceChildren(); return; }
  const nodes = state.cards.map((card) => cardNode(card, t(), { apply, feedback }));
  $("cards").replaceChildren(...(nodes.length ? nodes : [element("p", { textContent: t().noCards })]));
}

function curl() {
  const { service, body } = state.exchange, quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -s -X POST '${location.origin}/cds-services/${service}' -H 'Content-Type: application/json' -H 'Accept-Language: ${state.language}' --data '${quoted}'`;
}

let waiting = 0;
function searchDrugs() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const asked = $("drug").value;
    const response = await fetch(`/ui/drugs?q=${encodeURIComponent(asked)}`);
    if (!response.ok || asked !== $("drug").value) return;
    const found = await response.json();
    if (asked.trim()) say(t().found(found.length));
    $("drugs").replaceChildren(...found.map((drug) => {
      const button = element("button", { type: "button", textContent: drug[state.language] === drug.en ? drug.en : `${drug[state.language]} (${drug.en})` });
      button.addEventListener("click", () => addDrug(drug));
      return element("li", {}, button);
    }));
  }, 150);
}

function addDrug(drug) {
  const at = state.demo.clock ?? new Date().toISOString();
  const order = {
    resourceType: "MedicationRequest", status: "draft", intent: "order",
    medicationCodeableConcept: { coding: drug.coding, text: drug.en },
    subject: { reference: `Patient/${$("patient").value.trim()}` }, authoredOn: at,
    dosageInstruction: [{ timing: { event: [at] } }],
  };
  setDrafts([...state.drafts, order]);
  $("drugs").replaceChildren();
  $("drug").value = "";
  $("drug").focus();
  say(t().added(drug[state.language]));
}

function speak(language) {
  state.language = language in TEXTS ? language : "en";
  document.documentElement.lang = state.language === "en" ? "en" : "zh-Hant-TW";
  $("language").value = state.language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t()[node.dataset.t];
  showStories();
  showSaved();
  setDrafts(state.drafts);
}

async function start() {
  const stored = new URLSearchParams(location.search).get("lang") ?? navigator.language;
  speak(stored.toLowerCase().startsWith("zh") ? "zh-TW" : "en");
  const [demo, discovery] = await Promise.all([fetch("/ui/demo"), fetch("/cds-services")]);
  if (demo.ok) state.demo = await demo.json();
  if (discovery.ok) state.services = (await discovery.json()).services;
  else say(discovery.status === 401 ? t().token : t().refused(discovery.status), true);
  const hooks = [...new Set(state.services.map((s) => s.hook))].sort();
  $("service").replaceChildren(...hooks.map((hook) => element("optgroup", { label: hook }, ...state.services.filter((s) => s.hook === hook).map((s) => element("option", { value: s.id, textContent: s.id })))));
  $("service").value = "all-patient-view";
  showStories();
  if (state.demo.patients.length) { $("story").value = state.demo.patients[0].id; takeStory(); }
}

$("ask").addEventListener("submit", (event) => { event.preventDefault(); fire().then(() => { if (state.cards) $("cards").focus(); }); });
$("story").addEventListener("change", takeStory);
$("saved").addEventListener("change", takeSaved);
$("drug").addEventListener("input", searchDrugs);
$("drug").addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
$("language").addEventListener("change", async () => { speak($("language").value); if (state.exchange) await fire(); });
$("take").addEventListener("click", () => {
  try {
    const read = JSON.parse($("json").value || "[]");
    if (!Array.isArray(read) || !read.every((r) => r && typeof r.resourceType === "string")) throw new Error();
    setDrafts(read);
    say(t().taken);
  } catch { say(t().badJson, true); }
});
$("curl").addEventListener("click", async () => {
  const text = curl();
  try { await navigator.clipboard.writeText(text); say(t().copied); } catch { $("request").textContent = text; $("request").closest("details").open = true; }
});
start();
