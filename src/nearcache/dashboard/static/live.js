// Reads the report every two seconds while somebody looks, and says how old it is when it cannot.
const EVERY = 2000, PATIENCE = 5000;
let seen = null, heardAt = 0, paused = false, asking = null, timer = 0, csrf = "", away = "", sent = null;
const here = new URL(".", location.href);

const chosen = (report) => {
  const scope = byId("scope").value;
  return scope ? {
    ...report,
    caches: report.caches.filter((cache) => cache.namespace === scope),
    workers: report.workers.map((worker) => ({ ...worker, caches: worker.caches.filter((cache) => cache.namespace === scope) })).filter((worker) => worker.caches.length),
  } : report;
};

const draw = () => {
  if (!seen) return;
  const whole = seen.report;
  if (whole) {
    const names = [...new Set(whole.caches.map((cache) => cache.namespace))];
    choose(byId("scope"), [["", "all"], ...names.map((name) => [name, name])]);
    byId("scope-label").hidden = names.length < 2;
    show(byId("namespaces"), names.map((name) => el("option", { value: name })));
    const report = chosen(whole), bare = !report.workers.length;
    byId("where").textContent = report.store.address;
    byId("where").title = report.store.address;
    byId("board").hidden = bare;
    byId("empty").hidden = !bare;
    byId("asking").hidden = false;
    byId("forgetting").hidden = !seen.writes;
    if (bare) drawEmpty(report);
    else {
      measure();
      drawHeadline(report, report.caches);
      drawTiles(report, report.caches);
      drawAttention(report, report.caches);
      drawHour(report, report.caches);
      drawCaches(report, report.caches);
      drawCloser(report, report.caches);
      drawWorkers(report);
      drawHottest(report.caches, seen.writes);
    }
    byId("made").textContent = `Read at ${new Date(whole.at * 1000).toLocaleTimeString()}.`;
    if (!document.body.dataset.drawn) requestAnimationFrame(() => performance.mark("drawn"));
    document.body.dataset.drawn = String(whole.at);
  } else if (seen.trouble) {
    show(byId("headline"), "The store does not answer");
    show(byId("lead"), "This page goes on asking; nothing needs to be done here when it comes back.");
  }
  tellState();
};

const age = () => (seen && seen.report ? seen.age + (performance.now() - heardAt) / 1000 : null);
const say = (state, text, banner) => {
  const connection = byId("connection"), before = connection.dataset.state;
  connection.dataset.state = state;
  byId("connection-text").textContent = text;
  byId("told").textContent = before === state ? byId("told").textContent : banner ? banner[1].join("") : text;
  document.body.classList.toggle("old", state === "stale" || state === "away");
  show(byId("banner"), banner && el("p", { class: `note ${state === "away" ? "bad" : "warn"}` }, note("", banner[0], banner[1], " ", old())));
};
const ended = (sentence) => (/[.!?]$/.test(sentence) ? sentence : `${sentence}.`);
const old = () => (age() === null ? "There are no figures yet." : el("span", {}, `The figures below are ${span(age())} old.`));
const tellState = () => {
  if (away) say("away", "No answer", ["The dashboard does not answer.", [away]]);
  else if (seen && seen.trouble) say("stale", "Store silent", ["The store does not answer.", [ended(seen.trouble)]]);
  else if (paused) say("paused", age() === null ? "Paused" : `Paused, ${span(age())} old`, null);
  else if (seen) say("live", "Live", null);
};

const read = async () => {
  clearTimeout(timer);
  if (asking || paused || document.hidden) return;
  asking = new AbortController();
  const giveUp = setTimeout(() => asking && asking.abort(), PATIENCE);
  try {
    const answer = await fetch(new URL("report", here), { signal: asking.signal });
    if (answer.status === 401) { away = "It wants its token again: reload the page."; }
    else if (!answer.ok) away = `It says: ${(await answer.text()).slice(0, 300)}`;
    else {
      seen = await answer.json();
      heardAt = performance.now();
      csrf = seen.csrf;
      away = "";
      const lamp = document.querySelector(".lamp");
      lamp.classList.remove("beat");
      requestAnimationFrame(() => lamp.classList.add("beat"));
    }
  } catch {
    away = "Has it been stopped? This page goes on asking.";
  } finally {
    clearTimeout(giveUp);
    asking = null;
  }
  if (away) tellState(); else draw();
  timer = setTimeout(read, EVERY);
};

// What is asked for and what is done.
const post = async (path, body) => {
  const giveUp = AbortSignal.timeout(PATIENCE + 3000);
  const answer = await fetch(new URL(path, here), {
    method: "POST", signal: giveUp, headers: { "content-type": "application/json", "x-nearcache-csrf": csrf }, body: JSON.stringify(body),
  });
  const text = await answer.text();
  try { return JSON.parse(text); } catch { return { error: text || `status ${answer.status}` }; }
};
const busily = async (form, place, work) => {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  try { show(place, await work()); } catch { show(place, el("p", { class: "note bad" }, note("", "No answer", "The dashboard did not answer; try again."))); }
  button.disabled = false;
};
const refused = (answer) => el("p", { class: "note bad" }, note("", "Not done", answer.error));
const facts = (found, before = "") => Object.entries(found).flatMap(([name, value]) => {
  if (value === null || name === "sentences") return [];
  const label = `${before}${name.replaceAll("_", " ")}`;
  if (Array.isArray(value)) {
    return value.flatMap((one, i) => (one && typeof one === "object" ? facts(one, `${label} ${i + 1}: `) : i ? [] : [[label, value.join(", ")]]));
  }
  return typeof value === "object" ? facts(value, `${label}: `) : [[label, value === true ? "yes" : value === false ? "no" : String(value)]];
});
const explanation = (answer) => answer.error ? refused(answer) : [
  (answer.sentences || []).map((sentence, i) => el("p", { class: "said" }, i ? sentence : el("b", {}, sentence))),
  el("dl", { class: "facts" }, facts(answer).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
];
byId("explain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target, { namespace, key, model } = form.elements;
  busily(form, byId("explained"), async () => explanation(await post("explain", { namespace: namespace.value, key: key.value, model: model.value || null })));
});

const sure = (title, text) => new Promise((answer) => {
  const dialog = byId("sure");
  byId("sure-title").textContent = title;
  byId("sure-text").textContent = text;
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true });
  dialog.showModal();
});
const forget = async (namespace, what, name, model) => {
  const all = what === "everything";
  const title = { key: `Forget ${shownKey(name)}?`, text: `Forget this text of the model ${model}?`, model: `Forget everything of the model ${name}?`, tag: `Forget everything with the tag ${name}?`, everything: `Forget everything of ${namespace}?` }[what];
  if (!(await sure(title, all ? `All that is cached in ${namespace}, in the store and in every worker, is loaded again when it is asked for.` : `In ${namespace}, in the store and in every worker.`))) return null;
  const answer = await post("forget", { namespace, what, name: all ? null : name, model: what === "text" ? model : null });
  setTimeout(read, 300);
  return answer.error ? refused(answer) : el("p", { class: "note good" }, note("", "Forgotten", answer.done));
};
byId("forget-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target, { namespace, what, name, model } = form.elements;
  busily(form, byId("forgotten"), () => forget(namespace.value, what.value, name.value, model.value));
});
byId("forget-form").elements.what.addEventListener("change", (event) => {
  for (const [name, wanted] of [["name", event.target.value !== "everything"], ["model", event.target.value === "text"]]) {
    const label = document.querySelector(`[data-for=${name}]`);
    label.hidden = !wanted;
    label.querySelector("input").required = wanted;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const { action, namespace, name } = button.dataset;
  if (action === "all-caches") { allCaches = !allCaches; draw(); }
  else if (action === "all-workers") { allWorkers = !allWorkers; draw(); }
  else if (action === "forget") {
    button.disabled = true;
    try { show(byId("forgotten"), await forget(namespace, "key", name)); } catch { show(byId("forgotten"), refused({ error: "The dashboard did not answer; try again." })); }
    button.disabled = false;
  }
});
byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  if (paused) { clearTimeout(timer); tellState(); } else read();
});
byId("scope").addEventListener("change", draw);
byId("closer-cache").addEventListener("change", draw);
byId("hour").addEventListener("pointermove", pointAt);
byId("hour").addEventListener("pointerleave", () => pointAt(null));
document.addEventListener("toggle", draw, true);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : read()));
setInterval(() => { if (away || paused || (seen && seen.trouble)) tellState(); }, 1000);
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; requestAnimationFrame(draw); } });
read();
