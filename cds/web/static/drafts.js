// The draft list as an EHR keeps it: added by search, changed by hand, changed by suggestions.
import { element } from "./dom.js";

const UNITS = ["mg", "ug", "g", "mL", "{cells}", "[IU]"];

const held = (resource) => (resource.contained ?? []).find((inner) => inner.resourceType === "Medication");
const conceptOf = (resource) => resource.medicationCodeableConcept ?? held(resource)?.code ?? resource.vaccineCode ?? resource.code ?? resource.serviceType?.[0];
const said = (concept) => concept?.text ?? concept?.coding?.find((coding) => coding.display)?.display;

// The code of a draft that carries no readable name.
export const codeAlone = (resource) => (said(conceptOf(resource)) ? undefined : conceptOf(resource)?.coding?.[0]?.code);

// `names` has what the drug tables call a code.
export function nameOf(resource, names) {
  const code = codeAlone(resource);
  return said(conceptOf(resource)) ?? names?.get(code) ?? code ?? resource.medicationReference?.display ?? resource.description ?? resource.resourceType;
}

const idOf = (reference) => /([^/]+)$/.exec(String(reference ?? ""))?.[1];

function identified(resource, taken) {
  if (resource.id) return resource;
  for (let n = 1; ; n += 1) if (!taken.some((draft) => draft.id === `draft-${n}`)) return { ...resource, id: `draft-${n}` };
}

export function withIds(resources) {
  const found = [];
  for (const resource of resources) found.push(identified(resource, [...found, ...resources]));
  return found;
}

// Deletes, updates and creates of one suggestion, all together.
export function applied(drafts, suggestion) {
  let found = drafts;
  for (const action of suggestion.actions ?? []) {
    const id = idOf(action.resourceId?.[0] && Array.isArray(action.resourceId) ? action.resourceId[0] : action.resourceId ?? action.resource?.id);
    if (action.type === "delete") found = found.filter((draft) => draft.id !== id);
    else if (action.type === "update") found = found.map((draft) => (draft.id === id ? action.resource : draft));
    else if (action.resource) found = [...found, action.resource];
  }
  return withIds(found);
}

export function newOrder(drug, patient, at) {
  return {
    resourceType: "MedicationRequest", status: "draft", intent: "order",
    medicationCodeableConcept: { coding: drug.coding, text: drug.en },
    subject: { reference: `Patient/${patient}` }, authoredOn: at,
    dosageInstruction: [{ timing: { event: [at] } }],
  };
}

// Dose, unit and start of a drug order that has one simple instruction; other drafts are edited as JSON.
function fields(draft, name, t, change) {
  const instruction = draft.dosageInstruction?.[0];
  const event = instruction?.timing?.event?.[0];
  if (draft.resourceType !== "MedicationRequest" || draft.dosageInstruction?.length !== 1 || event === undefined) return [];
  const quantity = instruction.doseAndRate?.[0]?.doseQuantity ?? {};
  const code = quantity.code ?? "mg";
  const input = (label, properties) => element("input", { ...properties, aria: { label: `${label} ${name}` } });
  const dose = input(t.dose, { type: "number", min: "0", step: "any", value: quantity.value ?? "", placeholder: t.dose });
  const unit = element("select", { aria: { label: `${t.unit} ${name}` } }, ...[...new Set([code, ...UNITS])].map((u) => element("option", { value: u, textContent: u.replace(/[{}[\]]/g, "") })));
  unit.value = code;
  const start = input(t.start, { type: "datetime-local", value: event.slice(0, 16) });
  const changed = () => {
    const { doseAndRate, ...rest } = instruction;
    const amount = dose.value === "" ? {} : { doseAndRate: [{ ...doseAndRate?.[0], doseQuantity: { value: Number(dose.value), unit: unit.value, system: "http://unitsofmeasure.org", code: unit.value } }] };
    const at = start.value ? `${start.value.slice(0, 16)}${event.slice(16) || ":00+08:00"}` : event;
    change({ ...draft, dosageInstruction: [{ ...rest, timing: { ...instruction.timing, event: [at] }, ...amount }] });
  };
  for (const field of [dose, unit, start]) field.addEventListener("change", changed);
  return [element("div", { className: "fields" }, dose, unit, start)];
}

export function draftNodes(drafts, t, set, names) {
  return drafts.map((draft, n) => {
    const called = nameOf(draft, names);
    const remove = element("button", { type: "button", className: "quiet", textContent: "×", title: t.remove, aria: { label: `${t.remove} ${called}` } });
    remove.addEventListener("click", () => set(drafts.filter((_, m) => m !== n), true));
    const name = element("span", {}, called, element("small", { textContent: `${draft.resourceType}/${draft.id}` }));
    const change = (changed) => set(drafts.map((other, m) => (m === n ? changed : other)));
    return element("li", {}, element("div", { className: "draft" }, name, remove), ...fields(draft, called, t, change));
  });
}
