// One card as an EHR shows it: indicator, text, suggestions, override reasons, evidence.
import { disclosure, element, pretty, table } from "./dom.js";
import { markdown, safeLink } from "./markdown.js";

const FINDING = "org.tcell-cds.finding";

function evidence(finding, t) {
  const box = disclosure(t.evidence);
  if (finding.evidence?.length) {
    const rows = finding.evidence.map((item) => [item.reference, item.concept, [item.value, item.unit].filter((x) => x !== undefined).join(" "), item.effective]);
    box.append(table([t.resource, t.concept, t.value, t.effective], rows, t.evidence));
  }
  if (finding.missing?.length) box.append(element("p", { textContent: `${t.missing}: ${finding.missing.join(", ")}` }));
  const lost = (finding.losses ?? []).map((loss) => `${loss.concept ?? loss.resource}: ${loss.reason}`);
  if (lost.length) box.append(element("p", { textContent: `${t.losses}: ${lost.join(", ")}` }));
  return box;
}

function head(card, title, t) {
  const word = element("span", { className: "word", textContent: t[card.indicator] ?? card.indicator });
  const topic = element("span", { className: "topic", textContent: card.source?.topic?.display ?? "" });
  return [element("p", { className: "head" }, word, topic), element("h3", { id: title, textContent: card.summary })];
}

function source(card, t) {
  const node = element("p", { className: "source", textContent: `${t.source}: ` });
  const href = safeLink(card.source?.url ?? "");
  node.append(href ? element("a", { href, rel: "noopener noreferrer", target: "_blank", textContent: card.source.label }) : card.source?.label ?? "");
  const links = (card.links ?? []).filter((link) => safeLink(link.url));
  if (links.length) node.append(` · ${t.docs}: `, ...links.flatMap((link) => [element("a", { href: link.url, rel: "noopener noreferrer", target: "_blank", textContent: link.label }), " "]));
  return node;
}

// `on` has apply(suggestion) and feedback(item) -> Promise<boolean>
export function cardNode(card, t, on) {
  const title = `c-${card.uuid}`;
  const node = element("article", { className: `card ${card.indicator}`, aria: { labelledby: title } }, ...head(card, title, t));
  const detail = element("details", { className: "detail", open: card.indicator !== "info" }, element("summary", { textContent: t.details }), markdown(card.detail ?? ""), source(card, t));
  const state = element("p", { className: "done", aria: { role: "status" } });
  const tell = async (item, text) => {
    const sent = await on.feedback({ card: card.uuid, outcomeTimestamp: new Date().toISOString(), ...item });
    state.className = sent ? "done" : "wrong";
    state.textContent = sent ? text : t.notSent;
    return sent;
  };
  node.append(detail, ...suggestions(card, t, on, tell), override(card, t, tell, node), state);
  if (card.extension?.[FINDING]) node.append(evidence(card.extension[FINDING], t));
  return node;
}

function suggestions(card, t, on, tell) {
  const buttons = [];
  return (card.suggestions ?? []).map((suggestion) => {
    const words = suggestion.isRecommended ? [suggestion.label, element("span", { className: "best", textContent: t.recommended })] : [suggestion.label];
    const button = element("button", { type: "button", className: "suggest" }, element("span", { textContent: `${t.apply}: ` }), ...words);
    buttons.push(button);
    button.addEventListener("click", () => {
      on.apply(suggestion);
      for (const other of card.selectionBehavior === "at-most-one" ? buttons : [button]) other.disabled = true;
      button.classList.add("taken");
      tell({ outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }] }, t.applied);
    });
    const told = (suggestion.actions ?? []).map((action) => element("li", { textContent: action.description }));
    const resource = disclosure(t.show, element("pre", { tabIndex: 0, textContent: pretty(suggestion.actions ?? []) }));
    return element("div", { className: "suggestion" }, button, element("ul", {}, ...told), resource);
  });
}

// An EHR asks for a reason where the card offers some; any other card is only put away.
function override(card, t, tell, node) {
  const reasons = card.overrideReasons ?? [];
  if (!reasons.length) {
    const button = element("button", { type: "button", className: "quiet", textContent: t.dismiss });
    button.addEventListener("click", async () => {
      if (await tell({ outcome: "overridden" }, t.dismissed)) { node.classList.add("over"); button.disabled = true; }
    });
    return element("div", { className: "override" }, button);
  }
  const select = element("select", {}, ...reasons.map((reason, n) => element("option", { value: n, textContent: reason.display })));
  const comment = element("input", { autocomplete: "off" });
  const button = element("button", { type: "button", className: "quiet", textContent: t.override });
  button.addEventListener("click", async () => {
    const { code, system } = reasons[Number(select.value)];
    const overrideReason = { reason: { code, system } };
    if (comment.value.trim()) overrideReason.userComment = comment.value.trim();
    if (await tell({ outcome: "overridden", overrideReason }, `${t.overridden}: ${reasons[Number(select.value)].display}`)) { node.classList.add("over"); button.disabled = true; }
  });
  const field = (words, input) => element("label", {}, element("span", { textContent: words }), input);
  return element("div", { className: "override" }, field(t.reason, select), field(t.comment, comment), button);
}
