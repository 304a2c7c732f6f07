// The page plays the EHR: it builds the hook request, sends it to the service it came from, shows the cards.
import { dataNodes, pictureNodes, traceNodes } from "./behind.js";
import { cardNode } from "./card.js";
import { element, pretty } from "./dom.js";
import { applied, codeAlone, draftNodes, newOrder, withIds } from "./drafts.js";
import { TEXTS } from "./texts.js";

const $ = (id) => document.getElementById(id);
const state = { language: "en", demo: { patients: [] }, services: [], drafts: [], cards: null, behind: null, exchange: null, feedback: [], names: new Map() };
const t = () => TEXTS[state.language];
const KINDS = { "order-select": "draftOrders", "order-sign": "draftOrders", "appointment-book": "appointments" };
const NEEDS_ENCOUNTER = ["encounter-start", "encounter-discharge"];

const say = (text, wrong) => { $("status").textContent = text; $("status").className = wrong ? "wrong" : ""; };
const story = () => state.demo.patients.find((patient) => patient.id === $("story").value);
const bundle = (resources) => ({ resourceType: "Bundle", type: "collection", entry: resources.map((resource) => ({ resource })) });
const hookOf = () => state.services.find((s) => s.id === $("service").value)?.hook ?? "patient-view";

// --- patient, hook, drafts

function setDrafts(resources, focus = false) {
  state.drafts = withIds(resources);
  $("json").value = pretty(state.drafts);
  $("no-drafts").hidden = state.drafts.length > 0;
  $("drafts").replaceChildren(...draftNodes(state.drafts, t(), setDrafts, state.names));
  nameCodes();
  if (focus) $("drug").focus();
}

// Drafts that say their drug by code alone get the name that the drug tables have for it.
async function nameCodes() {
  for (const draft of state.drafts) {
    const code = codeAlone(draft);
    if (!code || state.names.has(code)) continue;
    state.names.set(code, code);
    const response = await fetch(`/ui/drugs?q=${encodeURIComponent(code)}`);
    const found = response.ok ? (await response.json()).find((drug) => drug.coding.some((coding) => coding.code === code)) : null;
    if (!found) continue;
    state.names.set(code, found.en);
    $("drafts").replaceChildren(...draftNodes(state.drafts, t(), setDrafts, state.names));
  }
}

function showStories() {
  const chosen = $("story").value, patients = state.demo.patients;
  $("demo-row").hidden = $("saved-row").hidden = $("clock").hidden = !patients.length;
  if (state.demo.clock) $("clock").textContent = t().clock(state.demo.clock.slice(0, 16).replace("T", " "));
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
  $("service").value = saved.services.find((id) => state.services.some((s) => s.id === id)) ?? `all-${hook}`;
  $("encounter").value = context.encounterId ?? "";
  setDrafts((context[KINDS[hook]]?.entry ?? []).map((entry) => entry.resource));
}

function wrong(text, field) {
  say(text, true);
  $(field).focus();
  return null;
}

function requestBody() {
  const hook = hookOf(), context = { userId: $("user").value.trim() || "Practitioner/demo", patientId: $("patient").value.trim() };
  if (!context.patientId) return wrong(t().needPatient, "patient");
  if ($("encounter").value.trim()) context.encounterId = $("encounter").value.trim();
  if (NEEDS_ENCOUNTER.includes(hook) && !context.encounterId) return wrong(t().needEncounter, "encounter");
  if (KINDS[hook]) {
    if (!state.drafts.length) return wrong(t().needDraft, "drug");
    context[KINDS[hook]] = bundle(state.drafts);
    if (hook === "order-select") context.selections = state.drafts.map((d) => `${d.resourceType}/${d.id}`);
  }
  const body = { hook, hookInstance: crypto.randomUUID(), context };
  const fhir = $("fhir").value.trim().replace(/\/+$/, ""), token = $("token").value;
  if (fhir) body.fhirServer = fhir;
  if (fhir && token) body.fhirAuthorization = { access_token: token, token_type: "Bearer", expires_in: 300, scope: "patient/*.read", subject: "tcell-cds-page" };
  return body;
}

// --- the exchange

async function post(path, body) {
  const headers = { "Content-Type": "application/json", "Accept-Language": state.language };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  let json = null;
  try { json = JSON.parse(text); } catch { json = { text }; }
  return { status: response.status, ok: response.ok, json };
}

async function fire(moveOn = false) {
  const body = requestBody();
  if (!body) return;
  const service = $("service").value, started = performance.now();
  say(t().busy);
  $("answer").setAttribute("aria-busy", "true");
  try {
    const answer = await post(`/cds-services/${encodeURIComponent(service)}`, body);
    Object.assign(state, { exchange: { service, body, answer, ms: Math.round(performance.now() - started) }, cards: answer.ok ? answer.json.cards ?? [] : null, behind: null, feedback: [] });
    showAnswer();
    if (moveOn && answer.ok) $("cards").focus();
    if (answer.ok) { say(t().answered(state.cards.length, state.exchange.ms)); await lookBehind(service, body); }
    else say(`${answer.status === 401 ? t().token : t().refused(answer.status)}: ${problem(answer.json)}`, true);
  } catch { say(t().offline, true); }
  $("answer").removeAttribute("aria-busy");
}

const problem = (outcome) => (outcome.issue ?? []).map((issue) => [issue.details?.text, issue.diagnostics].filter(Boolean).join(" ")).filter(Boolean).join("; ");

// The same body again, to the page's own route: pictures and trace are no part of CDS Hooks.
async function lookBehind(service, body) {
  $("pictures-panel").hidden = false;
  const width = Math.max(Math.floor($("pictures").getBoundingClientRect().width) - 2, 280);
  const found = await post(`/ui/explain/${encodeURIComponent(service)}?width=${width}`, body);
  $("pictures-panel").hidden = true;
  if (!found.ok || state.exchange.body !== body) return;
  state.behind = found.json;
  showBehind();
}

async function feedback(item) {
  const sent = { feedback: [item] };
  let status = 0;
  try { status = (await post(`/cds-services/${encodeURIComponent(state.exchange.service)}/feedback`, sent)).status; } catch { /* the status stays 0 */ }
  state.feedback.push({ status, sent });
  showFeedback();
  return status === 200;
}

function showFeedback() {
  $("feedback-count").textContent = state.feedback.length;
  $("feedback").textContent = state.feedback.map(({ status, sent }) => `${status}\n${pretty(sent)}`).join("\n\n");
}

// What may be shown, copied and pasted into a report: without the token.
function shareable(body) {
  if (!body.fhirAuthorization) return body;
  return { ...body, fhirAuthorization: { ...body.fhirAuthorization, access_token: "TOKEN" } };
}

function showAnswer() {
  const { body, answer, ms } = state.exchange;
  $("request").textContent = pretty(shareable(body));
  $("response").textContent = pretty(answer.json);
  $("timing").textContent = `HTTP ${answer.status} · ${ms} ms`;
  $("curl").disabled = false;
  $("jump").hidden = false;
  showFeedback();
  for (const id of ["pictures", "trace", "data"]) $(id).replaceChildren();
  $("pictures-panel").hidden = true;
  if (!state.cards) { $("cards").replaceChildren(element("p", { className: "wrong", textContent: problem(answer.json) })); return; }
  const on = { apply: (suggestion) => setDrafts(applied(state.drafts, suggestion)), feedback };
  const nodes = state.cards.map((card) => cardNode(card, t(), on));
  $("cards").replaceChildren(...(nodes.length ? nodes : [element("p", { className: "empty", textContent: t().noCards })]));
}

function showBehind() {
  const { behind } = state, drawn = pictureNodes(behind, t()), ms = behind.milliseconds ?? {};
  $("pictures").replaceChildren(...drawn);
  $("pictures-panel").hidden = !drawn.length;
  $("trace").replaceChildren(...traceNodes(behind, t()));
  $("data").replaceChildren(...dataNodes(behind, t()));
  if (ms.read !== undefined) $("timing").textContent += ` (${t().stages(ms.read, ms.rules, ms.render)})`;
}

function curl() {
  const { service, body } = state.exchange, quoted = JSON.stringify(shareable(body)).replaceAll("'", "'\\''");
  return `curl -s -X POST '${location.origin}/cds-services/${service}' -H 'Content-Type: application/json' -H 'Accept-Language: ${state.language}' --data '${quoted}'`;
}

// --- drug search

let waiting = 0;
function searchDrugs() {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    const asked = $("drug").value;
    const response = await fetch(`/ui/drugs?q=${encodeURIComponent(asked)}`);
    if (!response.ok || asked !== $("drug").value) return;
    const found = await response.json();
    if (asked.trim()) say(t().drugsFound(found.length));
    $("drugs").replaceChildren(...found.map((drug) => {
      const button = element("button", { type: "button", textContent: drug[state.language] === drug.en ? drug.en : `${drug[state.language]} (${drug.en})` });
      button.addEventListener("click", () => addDrug(drug));
      return element("li", {}, button);
    }));
  }, 150);
}

function addDrug(drug) {
  setDrafts([...state.drafts, newOrder(drug, $("patient").value.trim(), state.demo.clock ?? new Date().toISOString())]);
  $("drugs").replaceChildren();
  $("drug").value = "";
  $("drug").focus();
  if (!KINDS[hookOf()]) $("service").value = "all-order-select";
  say(t().added(drug[state.language]));
}

// Arrow keys walk from the field through what was found and back; Escape puts it away.
function walkDrugs(event) {
  const places = [$("drug"), ...$("drugs").querySelectorAll("button")], here = places.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter" && here === 0) event.preventDefault();
  else if (event.key === "Escape" && here >= 0) { $("drugs").replaceChildren(); $("drug").focus(); }
  else if (step && here >= 0 && places[here + step]) { event.preventDefault(); places[here + step].focus(); }
}

// --- start

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
  const wanted = new URLSearchParams(location.search).get("lang") ?? navigator.language;
  speak(wanted.toLowerCase().startsWith("zh") ? "zh-TW" : "en");
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

$("ask").addEventListener("submit", (event) => { event.preventDefault(); fire(true); });
$("story").addEventListener("change", takeStory);
$("saved").addEventListener("change", takeSaved);
$("drug").addEventListener("input", searchDrugs);
$("drug").closest("fieldset").addEventListener("keydown", walkDrugs);
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
