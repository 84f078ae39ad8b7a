// Figures as people read them.
const NUMBER = new Intl.NumberFormat("en-US");
const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const GAP = "\u202f";

const counted = (n) => NUMBER.format(n);
const brief = (n) => (n < 1e6 ? NUMBER.format(n) : SHORT.format(n));
// Two digits after the point, none of what is much, or the first two digits of what is small.
const cents = (n) => (n < 1e3 ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumFractionDigits: 0 });
const money = (n, currency) => `${n && n < 0.995 ? Number(n.toPrecision(2)) : n.toLocaleString("en-US", cents(n))} ${currency}`.trim();
const short = (n) => SHORT.format(n);
const plural = (n, one, more) => `${counted(n)} ${n === 1 ? one : more || one + "s"}`;

// Never 100 % or 0 % of what is not quite that.
const percent = (share) => {
  if (share === null || Number.isNaN(share)) return "–";
  const whole = 100 * share;
  let digits = whole < 10 && whole > 0 ? 1 : 0;
  if (whole > 99 && whole < 100) digits = Math.min(3, Math.ceil(-Math.log10(1 - share)) - 1);
  const factor = 10 ** digits;
  let shown = Math.round(whole * factor) / factor;
  if (share < 1 && shown >= 100) shown = Math.floor(whole * factor) / factor;
  if (share > 0 && shown === 0) return `under 0.1${GAP}%`;
  return `${shown}${GAP}%`;
};

const rounded = (n) => (n < 9.95 ? n.toFixed(1).replace(/\.0$/, "") : Math.round(n).toString());
const lasted = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1e-6) return `${Math.round(seconds * 1e9)}${GAP}ns`;
  if (seconds < 999.5e-6) return `${rounded(seconds * 1e6)}${GAP}µs`;
  if (seconds < 0.9995) return `${rounded(seconds * 1e3)}${GAP}ms`;
  if (seconds < 59.5) return `${rounded(seconds)}${GAP}s`;
  return span(seconds);
};
// Two units of a longer time.
const span = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}${GAP}s`;
  const minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  const two = (a, x, b, y) => `${counted(a)}${GAP}${x}` + (b ? ` ${b}${GAP}${y}` : "");
  if (minutes < 60) return two(minutes, "min", whole % 60, "s");
  if (hours < 48) return two(hours, "h", minutes % 60, "min");
  if (days < 1000) return two(days, "d", hours % 24, "h");
  return `${brief(days)}${GAP}d`;
};
const sized = (bytes) => {
  let size = bytes, unit = 0;
  while (size >= 1023.5 && unit < 5) { size /= 1024; unit += 1; }
  return `${unit ? rounded(size) : size}${GAP}${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
};
// A key as it is shown: of several parts, or the text that it is. One that was cut short is known by it.
const partsOf = (key) => {
  if (!key.startsWith("[")) return [key];
  try {
    const parts = JSON.parse(key);
    return Array.isArray(parts) && parts.every((part) => typeof part === "string") ? parts : [key];
  } catch { return null; }
};
const shownKey = (key) => (partsOf(key) || [`${key}…`]).join(" · ");
const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);
const some = (words, most = 3) =>
  words.length > most + 1 ? `${words.slice(0, most).join(", ")} and ${words.length - most} more` : listed(words);
