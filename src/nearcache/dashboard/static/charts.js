// Pictures, drawn at the width they have: on a telephone the bars shrink and the letters do not.
const chart = (label, height, ...parts) =>
  svg("svg", { class: "chart", role: "img", "aria-label": label, height }, parts);
const swatch = (tier) =>
  svg("svg", { width: 11, height: 11, "aria-hidden": "true" }, svg("rect", { width: 11, height: 11, rx: 3, class: `f-${tier}` }));
// The same as a table; its rows are made when somebody opens it.
const asTable = (key, title, heads, rows) => {
  const before = document.querySelector(`[data-key="${key}"]`);
  return el("details", { "data-key": key }, el("summary", {}, title),
    before && before.open && el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
      el("table", {},
        el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, rows().map(([first, ...cells]) =>
          el("tr", {}, el("th", { scope: "row" }, first), cells.map((cell) => el("td", {}, cell))))))));
};

// Who answered, as one bar.
const splitBar = (stats, height, label) => {
  const asked = askedOf(stats);
  let x = 0;
  return chart(label, height,
    svg("rect", { class: "f-track", width: "100%", height, rx: Math.min(6, height / 2) }),
    TIERS.map(([tier, field]) => {
      const share = asked ? (100 * stats[field]) / asked : 0;
      const bar = share > 0 && svg("rect", { class: `f-${tier}`, x: `${x}%`, width: `${Math.max(share, 0.15)}%`, height });
      x += share;
      return bar;
    }));
};

const FOOT = 20, STRIP = 34;
const hourChart = (hour, width) => {
  const tall = width < 500 ? 150 : 190, left = 38, room = Math.max(60, width - left);
  const step = room / 60, most = Math.max(1, ...hour.map(askedIn));
  const strip = tall + 12, floor = strip + STRIP;
  const ticks = width < 500 ? [0, 30, 59] : [0, 15, 30, 45, 59];
  const asked = hour.reduce((sum, minute) => sum + askedIn(minute), 0);
  const hits = hour.reduce((sum, minute) => sum + hitsIn(minute), 0);
  return chart(
    `Share of each tier by minute, over the last hour. ${counted(asked)} asked for, ${percent(ratio(hits, asked))} answered from a tier.`,
    floor + FOOT,
    [0, 0.5, 1].map((share) => [
      svg("line", { class: "grid", x1: left, x2: "100%", y1: tall * (1 - share) + 1, y2: tall * (1 - share) + 1 }),
      svg("text", { x: left - 8, y: tall * (1 - share) + (share === 1 ? 11 : share ? 4 : 1), "text-anchor": "end" }, `${100 * share}${GAP}%`),
    ]),
    hour.map((minute, i) => {
      const whole = askedIn(minute);
      if (!whole) return null;
      let y = tall + 1;
      const x = (left + i * step).toFixed(2), wide = Math.max(1, step - (step > 5 ? 1 : 0.4)).toFixed(2);
      return [
        TIERS.map(([tier, field]) => {
          const high = (tall * minute[MINUTE[field]]) / whole;
          y -= high;
          return high > 0 && svg("rect", { class: `f-${tier}`, x, y: y.toFixed(2), width: wide, height: high.toFixed(2) });
        }),
        svg("rect", { class: "f-loaded", x, y: (floor - (STRIP * whole) / most).toFixed(2), width: wide, height: Math.max(1, (STRIP * whole) / most).toFixed(2) }),
      ];
    }),
    svg("line", { class: "grid", x1: left, x2: "100%", y1: floor, y2: floor }),
    svg("text", { x: left - 8, y: strip + 10, "text-anchor": "end" }, brief(most)),
    ticks.map((i) => svg("text", { x: left + (i + 0.5) * step, y: floor + 15, "text-anchor": i === 0 ? "start" : i === 59 ? "end" : "middle" },
      i === 59 ? "now" : CLOCK.format(hour[i][0] * 60e3))));
};

// A hit ratio over the hour, as small as a word; minutes without a question are gaps.
const sparkline = (hour, label) => {
  let path = "", drawing = false;
  hour.forEach((minute, i) => {
    const asked = askedIn(minute);
    if (!asked) { drawing = false; return; }
    path += `${drawing ? "L" : "M"}${(2 * i + 1).toFixed(1)} ${(23 - (22 * hitsIn(minute)) / asked).toFixed(1)}`;
    if (!drawing) path += "h0.01";
    drawing = true;
  });
  return svg("svg", { role: "img", "aria-label": label, width: 120, height: 26, viewBox: "0 -1 120 26" },
    svg("line", { class: "grid", x1: 0, x2: 120, y1: 24, y2: 24 }), path && svg("path", { class: "trend", d: path }));
};

const LATENCIES = [["near", "near", "a hit in this process"], ["store", "store", "a trip to the store"], ["load", "load", "the model or database"], ["link", "link", "news of a change"]];
const latencyChart = (latency, width, path) => {
  const known = LATENCIES.filter(([name]) => latency[name] && latency[name].count);
  if (!known.length) return el("p", { class: "about" }, "Nothing was timed yet.");
  const all = known.flatMap(([name]) => [latency[name].p50, latency[name].p99]).map((x) => Math.log10(Math.max(x, 1e-8)));
  const low = Math.floor(Math.min(...all)), high = Math.max(low + 1, Math.ceil(Math.max(...all)));
  const pad = 8, at = (x) => pad + ((Math.log10(Math.max(x, 1e-8)) - low) / (high - low)) * Math.max(40, width - 2 * pad);
  const row = 42, foot = known.length * row;
  const every = width / (high - low) < 52 ? 2 : 1;
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => low + i).filter((power) => (power - low) % every === 0);
  return [
    chart(`Latency on a logarithmic scale. ${known.map(([name, label]) => `${label}: half within ${lasted(latency[name].p50)}, 99 % within ${lasted(latency[name].p99)}`).join("; ")}.`, foot + 24,
      ticks.map((power) => [
        svg("line", { class: "grid", x1: at(10 ** power), x2: at(10 ** power), y1: 0, y2: foot }),
        svg("text", { x: at(10 ** power), y: foot + 16, "text-anchor": power === low ? "start" : power === high ? "end" : "middle" }, lasted(10 ** power)),
      ]),
      known.map(([name, label, about], i) => {
        const { p50, p90, p99 } = latency[name], y = i * row + 29;
        return [
          svg("text", { class: "strong halo", x: pad, y: i * row + 14 }, label, svg("tspan", { "font-weight": 400, dx: 8 }, about)),
          svg("line", { class: `s-${name}`, "stroke-width": 4, "stroke-linecap": "round", x1: at(p50), x2: at(p99), y1: y, y2: y }),
          svg("circle", { class: `f-${name}`, cx: at(p50), cy: y, r: 6 }),
          svg("circle", { class: `f-${name}`, cx: at(p90), cy: y, r: 4 }),
          svg("circle", { class: `f-${name}`, cx: at(p99), cy: y, r: 4 }),
        ];
      })),
    el("table", { class: "narrow" },
      el("thead", {}, el("tr", {}, ["", "50 %", "90 %", "99 %", "timed"].map((head) => el("th", { scope: "col" }, head || el("span", { class: "unseen" }, "tier"))))),
      el("tbody", {}, known.map(([name, label]) => el("tr", {},
        el("th", { scope: "row" }, el("span", { class: "key" }, swatch(name), ` ${label}`)),
        ["p50", "p90", "p99"].map((which) => el("td", {}, figure([...path, "latency", name, which], latency[name][which], lasted(latency[name][which]), { class: "whole" }))),
        el("td", {}, figure([...path, "latency", name, "count"], latency[name].count, (latency[name].count < 1e4 ? counted : short)(latency[name].count))))))),
  ];
};

const curveChart = (curve, width) => {
  const tall = 190, left = 38, right = 10, room = Math.max(60, width - left - right);
  const most = Math.max(2 * curve.size, curve.points.at(-1)[0], 1) * 1.04;
  const x = (entries) => left + (room * entries) / most, y = (share) => 6 + tall * (1 - share);
  const points = [...curve.points];
  if (points[0][0] > 0) points.unshift([0, 0]);
  points.push([most, points.at(-1)[1]]);
  const line = points.map(([entries, share], i) => `${i ? "L" : "M"}${x(entries).toFixed(1)} ${y(share).toFixed(1)}`).join("");
  const base = tall + 6;
  const mark = (entries, share, kind, label) => {
    const end = x(entries) > left + room * 0.6;
    return [
      svg("line", { class: kind, x1: x(entries), x2: x(entries), y1: y(share), y2: base }),
      svg("circle", { class: kind === "now" ? "dot full" : "dot", cx: x(entries), cy: y(share), r: 5 }),
      svg("text", { class: "strong halo", x: x(entries) + (end ? -9 : 9), y: y(share) + (kind === "now" ? 22 : y(share) < 30 ? 38 : -10), "text-anchor": end ? "end" : "start" }, label),
    ];
  };
  return chart(`Hit ratio by the number of entries that near may hold: ${percent(curve.hit_ratio)} at ${counted(curve.size)}, ${percent(curve.hit_ratio_at_twice)} at ${counted(2 * curve.size)}.`, base + 22,
    [0, 0.5, 1].map((share) => [
      svg("line", { class: "grid", x1: left, x2: left + room, y1: y(share), y2: y(share) }),
      svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}${GAP}%`),
    ]),
    svg("path", { class: "area", d: `${line}L${x(most)} ${base}L${left} ${base}Z` }),
    svg("path", { class: "trend", d: line }),
    mark(2 * curve.size, curve.hit_ratio_at_twice, "twice", `×2: ${percent(curve.hit_ratio_at_twice)}`),
    mark(curve.size, curve.hit_ratio, "now", `now: ${percent(curve.hit_ratio)}`),
    svg("text", { x: left, y: base + 16 }, "0"),
    x(curve.size) - left > 24 && x(2 * curve.size) - x(curve.size) > 40 && svg("text", { x: x(curve.size), y: base + 16, "text-anchor": "middle" }, short(curve.size)),
    svg("text", { x: x(2 * curve.size), y: base + 16, "text-anchor": x(2 * curve.size) > left + 0.8 * room ? "end" : "middle" }, `${short(2 * curve.size)} entries`));
};
