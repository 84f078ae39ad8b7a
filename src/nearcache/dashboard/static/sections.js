// The parts of the page, each made of the report alone.
// Widths are read before anything is drawn: in between, each look would lay out the page anew.
const widths = {};
const measure = () => { for (const id of ["hour", "latency", "curve"]) widths[id] = Math.floor(byId(id).clientWidth) || 320; };
const widthOf = (id) => widths[id];
const note = (kind, mark, ...words) => [el("span", { class: "mark" }, mark), el("span", {}, words)];

const callsOf = (caches) => (caches.every((cache) => cache.kind === "EmbeddingCache" || !cache.saved_loads) ? "model call" : "call");

const drawHeadline = (report, caches) => {
  const asked = caches.reduce((sum, cache) => sum + askedOf(cache), 0);
  const stats = Object.fromEntries(TIERS.map(([, field]) => [field, added(caches, field)]));
  const saved = added(caches, "saved_loads"), seconds = added(caches, "saved_seconds");
  if (asked) {
    show(byId("headline"),
      figure(["share", "near_hits"], ratio(stats.near_hits, asked), percent(ratio(stats.near_hits, asked))), " answered near, ",
      figure(["sum", "saved_loads"], saved, (saved < 1e8 ? counted : short)(saved)), ` ${callsOf(caches)}${saved === 1 ? "" : "s"} spared`);
  } else show(byId("headline"), "Nothing was asked for yet");
  const started = Math.min(...report.workers.map((worker) => worker.started));
  const hosts = new Set(report.workers.map((worker) => worker.host)).size;
  show(byId("lead"),
    seconds >= 1 && [figure(["sum", "saved_seconds"], seconds, span(seconds)), " of waiting saved. "],
    `${plural(report.workers.length, "worker")} on ${plural(hosts, "host")}, ${plural(caches.length, "cache")}; figures since ${DAY.format(started * 1000)}, when the eldest of them started.`);
  show(byId("split"), asked > 0 && [
    splitBar(stats, 18, `Who answered: ${TIERS.map(([tier, field]) => `${tier} ${percent(stats[field] / asked)}`).join(", ")}.`),
    el("ul", { class: "legend" }, TIERS.filter(([tier, field]) => stats[field] || tier === "near" || tier === "store" || tier === "loaded").map(([tier, field, label, about]) =>
      el("li", { title: about, "data-key": tier }, swatch(tier), el("span", { class: "whole" }, label), " ",
        el("b", {}, figure(["share", field], stats[field] / asked, percent(stats[field] / asked))),
        el("span", { class: "aside" }, figure(["sum", field], stats[field], brief(stats[field])))))),
  ]);
};

const drawTiles = (report, caches) => {
  const sum = (field, as) => { const value = added(caches, field); return figure(["sum", field], value, as(value)); };
  const asked = caches.reduce((total, cache) => total + askedOf(cache), 0);
  const lately = hourOf(caches, report.at)[58];
  const store = report.store;
  const priced = caches.filter((cache) => typeof cache.saved_money === "number"), saved = added(priced, "saved_money");
  const tile = (name, value, ...more) =>
    el("div", { class: "tile", "data-key": name }, el("dt", {}, name), el("dd", {}, el("span", { class: "value block" }, value), el("span", { class: "more" }, more)));
  show(byId("tiles"), el("dl", { class: "tiles" },
    tile("Spared calls", sum("saved_loads", brief), added(caches, "bytes_saved") ? [sum("bytes_saved", sized), " not sent again"] : "each answered from a tier"),
    tile("Spared time", sum("saved_seconds", span), "those calls would have taken"),
    priced.length > 0 && tile("Spared money", figure(["sum", "saved_money"], saved, money(saved, report.currency)),
      money(added(priced, "spent_money"), report.currency), " spent", priced.length < caches.length && `, of ${counted(priced.length)} priced caches`),
    tile("Asked for", figure(["sum", "asked"], asked, brief(asked)), `${counted(askedIn(lately))} in the last whole minute`),
    tile("Loaded", sum("loads", brief), sum("load_seconds", span), " of loading, ", sum("load_failures", counted), " failed"),
    tile("Kept near", sum("bytes_near", sized), sum("entries_near", brief), " entries in all workers"),
    tile("In the store", store.bytes === null ? "–" : figure(["store", "bytes"], store.bytes, sized(store.bytes)),
      store.entries === null ? (store.bytes === null ? "it does not say how much it holds" : "entries are not counted") : [figure(["store", "entries"], store.entries, counted(store.entries)), " entries, of all namespaces"])));
};

const workerName = (worker) => `${worker.host}:${worker.pid}`;

// What an operator should know of, the worst first; nothing where all is well.
const problems = (report, caches) => {
  const found = [];
  const tell = (kind, mark, names, one, more, why) => {
    if (names.length) found.push([kind, mark, names.length === 1 ? `${names[0]} ${one}.` : `${counted(names.length)} workers ${more}: ${some(names)}.`, why]);
  };
  const having = (test) => report.workers.filter((worker) => worker.caches.some(test)).map(workerName);
  tell("bad", "Store left alone", having((cache) => cache.breaker === "open"), "leaves the store alone", "leave the store alone", "It did not answer them; it is tried again every few seconds, and what is near serves on.");
  tell("warn", "Store being tried", having((cache) => cache.breaker === "half-open"), "is trying the store again", "are trying the store again", "");
  tell("bad", "Link lost", having((cache) => cache.link.state === "lost"), "does not hear what others change", "do not hear what others change", "Until they do, they ask the store instead of trusting their copies.");
  tell("warn", "Late", report.workers.filter((worker) => !worker.alive).map((worker) => `${workerName(worker)} (last heard ${span(worker.age)} ago)`), "has stopped reporting", "have stopped reporting", "Ended, killed, or cut off from the store.");
  const count = (field, kind, mark, words, why) => { const n = added(caches, field); if (n) found.push([kind, mark, [figure(["sum", field], n, counted(n)), words], why]); };
  count("undelivered", "bad", "Undelivered", " invalidations wait for a store that does not answer.", "Other workers may serve what was forgotten here until then.");
  count("unwritten", "warn", "Unwritten", " loaded values wait for the store.", "");
  count("corrupt", "bad", "Damaged", " entries did not match their checksum, and were loaded again.", "See nearcache doctor.");
  const errors = hourOf(caches, report.at).reduce((sum, minute) => sum + minute[MINUTE.store_errors], 0);
  if (errors) found.push(["warn", "Store errors", `${plural(errors, "operation")} of the store failed within the hour.`, "Each was a counted miss; no caller saw it."]);
  const versions = [...new Set(report.workers.map((worker) => worker.version))];
  if (versions.length > 1) found.push(["warn", "Versions", `Workers run different versions: ${listed(versions)}.`, ""]);
  tell("warn", "Slow core", report.workers.filter((worker) => worker.core === "pure").map(workerName), "runs without the native core", "run without the native core", "It works, several times slower: install a wheel, or a compiler.");
  if (report.unreadable) found.push(["warn", "Unreadable", `${plural(report.unreadable, "snapshot")} of another release of nearcache cannot be read.`, ""]);
  return found;
};
const drawAttention = (report, caches) => {
  const found = problems(report, caches);
  show(byId("attention"), el("ul", { class: "notes" }, found.length
    ? found.map(([kind, mark, words, why]) => el("li", { class: `note ${kind}`, "data-key": mark }, note(kind, mark, words, why && el("span", { class: "aside" }, ` ${why}`))))
    : el("li", { class: "note good", "data-key": "well" }, note("good", "All is well", "Every worker reports, hears of changes and reaches the store."))));
};

let hourShown = [];
const drawHour = (report, caches) => {
  hourShown = hourOf(caches, report.at);
  const shown = TIERS.filter(([tier, field]) => !["stale", "shared"].includes(tier) || hourShown.some((minute) => minute[MINUTE[field]]));
  show(byId("hour"),
    el("div", { class: "drawn", "data-key": "drawn", id: "hour-drawn" }, hourChart(hourShown, widthOf("hour"))),
    el("ul", { class: "legend", "data-key": "legend" }, shown.map(([tier, , label, about]) => el("li", { title: about }, swatch(tier), el("span", { class: "whole" }, label), el("span", { class: "aside" }, about)))),
    asTable("hour-table", "The hour as a table", ["minute", "asked for", ...TIERS.map(([, , label]) => label), "answered from a tier"],
      () => hourShown.filter(askedIn).reverse().map((minute) => [CLOCK.format(minute[0] * 60e3),
        figure(["minute", minute[0], "asked"], askedIn(minute), counted(askedIn(minute))),
        ...TIERS.map(([, field]) => figure(["minute", minute[0], field], minute[MINUTE[field]], counted(minute[MINUTE[field]]))),
        percent(hitsIn(minute) / askedIn(minute))])));
};
const pointAt = (event) => {
  const drawn = byId("hour-drawn");
  if (!drawn) return;
  const old = drawn.querySelector(".tip");
  if (!event) { if (old) old.remove(); return; }
  const box = drawn.getBoundingClientRect(), step = (box.width - 38) / 60;
  const minute = hourShown[Math.floor((event.clientX - box.left - 38) / step)];
  if (!minute || !askedIn(minute)) { if (old) old.remove(); return; }
  const tip = old || drawn.appendChild(el("div", { class: "tip", "aria-hidden": "true" }));
  show(tip, el("p", {}, el("b", {}, CLOCK.format(minute[0] * 60e3)), `  ${counted(askedIn(minute))} asked for`),
    el("ul", { class: "legend" }, TIERS.filter(([, field]) => minute[MINUTE[field]]).map(([tier, field, label]) =>
      el("li", {}, swatch(tier), `${label} ${percent(minute[MINUTE[field]] / askedIn(minute))}`))));
  const x = event.clientX - box.left;
  tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth))}px`;
  if (x + 14 + tip.offsetWidth > box.width) tip.style.left = `${Math.max(0, x - 14 - tip.offsetWidth)}px`;
};

const FEW = 8;
let allCaches = false, allWorkers = false;
const cell = (label, ...content) => el("td", { "data-label": label, role: "cell" }, el("span", {}, content));
const tableOf = (name, heads, rows) =>
  el("table", { class: "cards", role: "table", "aria-label": name, "data-key": name },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads.map(([head, kind]) => el("th", { scope: "col", role: "columnheader", class: kind }, head)))),
    el("tbody", { role: "rowgroup" }, rows));
const more = (action, all, count) =>
  count > FEW && el("p", { "data-key": "more" }, el("button", { type: "button", class: "small", "data-action": action, "aria-expanded": String(all) }, all ? `The first ${FEW} only` : `All ${counted(count)}`));

const drawCaches = (report, caches) => {
  const busiest = [...caches].sort((a, b) => askedOf(b) - askedOf(a));
  show(byId("caches"), tableOf("Caches", [["cache", ""], ["who answered", ""], ["hit ratio, this hour", ""], ["hit ratio", ""], ["asked for", ""], ["spared calls", ""], ["spared time", ""], ["kept near", ""]],
    (allCaches ? busiest : busiest.slice(0, FEW)).map((cache) => {
      const path = ["caches", cache.namespace, cache.kind], asked = askedOf(cache);
      const fig = (field, as) => figure([...path, field], cache[field], as(cache[field]));
      return el("tr", { "data-key": nameOf(cache), role: "row" },
        el("th", { scope: "row", role: "rowheader" }, el("span", { class: "name" }, cache.namespace), el("span", { class: "aside" }, cache.kind)),
        cell("who answered", el("span", { class: "bar-cell" }, smallBar(cache, asked))),
        cell("this hour", sparkline(hourOf([cache], report.at), `Hit ratio of ${cache.namespace} over the hour`)),
        cell("hit ratio", fig("hit_rate", (share) => (asked ? percent(share) : "–"))),
        cell("asked for", figure([...path, "asked"], asked, brief(asked))),
        cell("spared calls", fig("saved_loads", brief)),
        cell("spared time", el("span", { class: "whole" }, fig("saved_seconds", span))),
        cell("kept near", el("span", { class: "whole" }, fig("entries_near", brief)), el("span", { class: "aside block whole" }, fig("bytes_near", sized))));
    })), more("all-caches", allCaches, caches.length));
};
const smallBar = (cache, asked) => {
  let x = 0;
  return svg("svg", { width: 110, height: 12, role: "img", "aria-label": asked ? TIERS.map(([tier, field]) => `${tier} ${percent(cache[field] / asked)}`).join(", ") : "nothing asked for" },
    svg("rect", { class: "f-track", width: 110, height: 12, rx: 3 }),
    asked > 0 && TIERS.map(([tier, field]) => {
      const wide = (110 * cache[field]) / asked;
      x += wide;
      return wide > 0 && svg("rect", { class: `f-${tier}`, x: (x - wide).toFixed(2), width: wide.toFixed(2), height: 12 });
    }));
};

const drawCloser = (report, caches) => {
  const busiest = [...caches].sort((a, b) => askedOf(b) - askedOf(a));
  choose(byId("closer-cache"), busiest.map((cache) => [nameOf(cache), `${cache.namespace} · ${cache.kind}`]));
  const cache = caches.find((one) => nameOf(one) === byId("closer-cache").value) || busiest[0];
  if (!cache) return;
  const path = ["caches", cache.namespace, cache.kind];
  show(byId("closer-about"), some([
    plural(cache.workers, "worker"),
    cache.policy && `policy ${cache.policy}`,
    cache.max_entries !== null && `${counted(cache.max_entries)} entries near at most`,
    cache.max_bytes !== null && `${sized(cache.max_bytes)} at most`,
    cache.ttl === null ? "kept until evicted" : `kept ${span(cache.ttl)}`,
    cache.views && plural(cache.views, "view"),
  ].filter(Boolean), 9) + ". ", figure([...path, "evictions"], cache.evictions, brief(cache.evictions)), " evicted, ",
    figure([...path, "expirations"], cache.expirations, brief(cache.expirations)), " expired, ", figure([...path, "invalidations"], cache.invalidations, brief(cache.invalidations)), " invalidated.");
  show(byId("latency"), latencyChart(cache.latency, widthOf("latency"), path));
  const curve = cache.curve;
  if (!curve || !curve.points.length) {
    show(byId("curve"), el("p", { class: "about" }, "No curve yet: it is drawn when enough different keys were asked for."));
    return;
  }
  const gain = curve.hit_ratio_at_twice - curve.hit_ratio;
  const hourly = hourOf([cache], report.at).reduce((sum, minute) => sum + askedIn(minute), 0);
  const calls = Math.round(gain * hourly * 24), own = curve.policy === cache.policy; // else it is LRU's curve
  show(byId("curve"),
    el("p", { class: "sentence" }, own ? "A near tier of " : "If it were LRU, a near tier of ", figure([...path, "curve", "size"], curve.size, counted(curve.size)), " entries ", own ? "answers " : "would answer ",
      el("b", {}, figure([...path, "curve", "hit_ratio"], curve.hit_ratio, percent(curve.hit_ratio))), "; twice the size would answer ",
      el("b", {}, figure([...path, "curve", "hit_ratio_at_twice"], curve.hit_ratio_at_twice, percent(curve.hit_ratio_at_twice))),
      !own ? `: an estimate, for its policy is ${cache.policy}.` : gain < 0.005 ? ": it is large enough." : calls >= 1 ? `, about ${brief(calls)} more a day at this hour’s pace.` : "."),
    curveChart(curve, widthOf("curve")),
    asTable("curve-table", "The curve as a table", ["entries", "hit ratio"], () => curve.points.map(([size, share]) => [counted(size), percent(share)])));
};

const LINK_WORDS = { tracking: ["good", "● hears of changes"], polling: ["good", "● looks for changes"], none: ["", "○ no link"], lost: ["bad", "▲ link lost"] };
const drawWorkers = (report) => {
  const sorted = [...report.workers].sort((a, b) => Number(a.alive) - Number(b.alive) || rank(b) - rank(a) || workerName(a).localeCompare(workerName(b), "en", { numeric: true }));
  show(byId("workers"), tableOf("Workers", [["worker", ""], ["reports", "left"], ["link", "left"], ["store", "left"], ["asked for", ""], ["hit ratio", ""], ["up", ""], ["runs", "left"]],
    (allWorkers ? sorted : sorted.slice(0, FEW)).map((worker) => {
      const path = ["workers", worker.id];
      const lost = worker.caches.filter((cache) => cache.link.state === "lost");
      const link = LINK_WORDS[worst(worker.caches.map((cache) => cache.link.state), LINKS)] || LINK_WORDS.none;
      const since = Math.min(...lost.map((cache) => cache.link.since || Infinity));
      const breaker = worst(worker.caches.map((cache) => cache.breaker), BREAKERS);
      const asked = worker.caches.reduce((sum, cache) => sum + askedOf(cache), 0), hits = added(worker.caches, "hits");
      const left = (label, ...content) => el("td", { "data-label": label, class: "left", role: "cell" }, el("span", {}, content));
      return el("tr", { "data-key": worker.id, role: "row" },
        el("th", { scope: "row", role: "rowheader" }, el("span", { class: "name" }, worker.host, ":", figure([...path, "pid"], worker.pid, String(worker.pid))), el("span", { class: "aside" }, worker.program)),
        left("reports", el("span", { class: `state ${worker.alive ? "good" : "warn"}` }, worker.alive ? "● live" : "▲ late"), el("span", { class: "aside block whole" }, "heard ", figure([...path, "age"], worker.age, span(worker.age)), " ago")),
        left("link", el("span", { class: `state ${link[0]}` }, link[1]), lost.length > 0 && el("span", { class: "aside block" }, Number.isFinite(since) && `for ${span(report.at - since)}`, lost[0].link.reason && `: ${lost[0].link.reason}`)),
        left("store", el("span", { class: `state ${breaker === "closed" ? "good" : breaker === "open" ? "bad" : "warn"}` }, { closed: "● asked", "half-open": "▲ being tried", open: "▲ left alone" }[breaker] || breaker)),
        cell("asked for", figure([...path, "asked"], asked, brief(asked))),
        cell("hit ratio", figure([...path, "ratio"], ratio(hits, asked), percent(ratio(hits, asked)))),
        cell("up", el("span", { class: "whole" }, span(worker.at - worker.started))),
        left("runs", el("span", { class: "breaks" }, `nearcache ${worker.version}`), el("span", { class: "aside block" }, `Python ${worker.python}, ${worker.core} core`)));
    })), more("all-workers", allWorkers, sorted.length));
};
const rank = (worker) => LINKS.indexOf(worst(worker.caches.map((cache) => cache.link.state), LINKS)) + 4 * BREAKERS.indexOf(worst(worker.caches.map((cache) => cache.breaker), BREAKERS));

const drawHottest = (caches, writes) => {
  const found = caches.flatMap((cache) => cache.hottest.map(([key, count]) => ({ namespace: cache.namespace, kind: cache.kind, key, count }))).sort((a, b) => b.count - a.count).slice(0, 10);
  const most = found.length ? found[0].count : 1;
  show(byId("hottest"), found.length ? el("ol", { class: "hot" }, found.map(({ namespace, kind, key, count }) =>
    el("li", { "data-key": JSON.stringify([namespace, kind, key]) },
      el("span", { class: "clip", title: shownKey(key) }, shownKey(key), el("span", { class: "aside" }, `  ${namespace}`)),
      el("b", { class: "num" }, figure(["hottest", namespace, kind, key], count, counted(count))),
      writes && partsOf(key) ? el("button", { type: "button", class: "small", "data-action": "forget", "data-namespace": namespace, "data-name": key, "aria-label": `Forget ${shownKey(key)} of ${namespace}` }, "Forget") : el("span", {}),
      svg("svg", { class: "chart", height: 6, "aria-hidden": "true" }, svg("rect", { class: "f-track", width: "100%", height: 6, rx: 3 }), svg("rect", { class: "f-near", width: `${(100 * count) / most}%`, height: 6, rx: 3 })))))
    : el("p", { class: "about" }, "Caches that count accesses (HotMemoryCache, ShortTermMemory) show here what is asked for most."));
};

const drawEmpty = (report) => {
  show(byId("headline"), "No worker is reporting yet");
  show(byId("lead"), "A program that caches in this store shows up here a few seconds after its first question.");
  show(byId("split"));
  const here = report.store.address;
  show(byId("empty"), el("section", { class: "card empty" }, el("h2", {}, "If one should be here"), el("ul", {},
    el("li", {}, "Does it run, and did it ask its cache for something? Caches that were only made say nothing."),
    el("li", {}, "Does it use this store? This page reads ", el("code", {}, here), "."),
    report.namespace && el("li", {}, "Does it use this namespace? This page looks at ", el("code", {}, report.namespace), " only."),
    el("li", {}, "Are its reports on? ", el("code", {}, "Options(report=0)"), " or ", el("code", {}, "NEARCACHE_REPORT=0"), " switch them off."),
    el("li", {}, "May it write them? On a server with access lists: ", el("code", {}, "nearcache doctor"), " says what is missing."))));
};
