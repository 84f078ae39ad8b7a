// What the report says of the caches that are looked at, added up.
const TIERS = [
  ["near", "near_hits", "near", "this process had it"],
  ["store", "far_hits", "store", "the store had it"],
  ["stale", "stale_hits", "stale", "an old value, while nothing better was to be had"],
  ["shared", "coalesced", "shared", "somebody was loading it already"],
  ["loaded", "misses", "loaded", "the model or database was asked"],
];
// Columns of a minute.
const MINUTE = { near_hits: 1, far_hits: 2, stale_hits: 3, misses: 4, coalesced: 5, loads: 6, load_seconds: 7, saved_loads: 8, saved_seconds: 9, store_errors: 10 };
const BREAKERS = ["closed", "half-open", "open"];
const LINKS = ["tracking", "polling", "none", "lost"];

const askedOf = (stats) => TIERS.reduce((sum, [, field]) => sum + stats[field], 0);
const ratio = (part, whole) => (whole ? part / whole : null);
const added = (caches, field) => caches.reduce((sum, cache) => sum + cache[field], 0);
const nameOf = (cache) => JSON.stringify([cache.namespace, cache.kind]);

// The last hour as 60 minutes, empty ones included.
const hourOf = (caches, at) => {
  const last = Math.floor(at / 60);
  const hour = Array.from({ length: 60 }, (_, i) => [last - 59 + i, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  for (const cache of caches) {
    for (const minute of cache.minutes) {
      const column = hour[minute[0] - last + 59];
      if (column) for (let i = 1; i < column.length; i++) column[i] += minute[i];
    }
  }
  return hour;
};
const askedIn = (minute) => TIERS.reduce((sum, [, field]) => sum + minute[MINUTE[field]], 0);
const hitsIn = (minute) => minute[1] + minute[2] + minute[3];
const worst = (found, order) => found.reduce((a, b) => (order.indexOf(b) > order.indexOf(a) ? b : a), order[0]);
